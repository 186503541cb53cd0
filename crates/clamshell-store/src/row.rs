//! From rows to typed values, and numbers to rows. Every value is checked again on the way out: the
//! file may come from an older version or a bad disk.

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, any::AnyRow};

use crate::StoreError;

/// A row of a named table.
pub(crate) struct Columns<'r> {
    table: &'static str,
    row: &'r AnyRow,
}

impl<'r> Columns<'r> {
    /// The row, of this table.
    pub(crate) fn new(table: &'static str, row: &'r AnyRow) -> Self {
        Self { table, row }
    }

    fn corrupt(&self, column: &'static str) -> StoreError {
        StoreError::Corrupt { table: self.table, column }
    }

    /// Free text.
    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.row.try_get::<String, _>(column).map_err(|_| self.corrupt(column))
    }

    /// Free text, or nothing.
    pub(crate) fn optional_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.row.try_get::<Option<String>, _>(column).map_err(|_| self.corrupt(column))
    }

    /// Text that is an id.
    pub(crate) fn id<T: TryFrom<String>>(&self, column: &'static str) -> Result<T, StoreError> {
        T::try_from(self.text(column)?).map_err(|_| self.corrupt(column))
    }

    /// Text that is JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|_| self.corrupt(column))
    }

    /// Bytes.
    pub(crate) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        self.row.try_get::<Vec<u8>, _>(column).map_err(|_| self.corrupt(column))
    }

    /// A number that fits `T`.
    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.optional_number(column)?.ok_or_else(|| self.corrupt(column))
    }

    /// A number that fits `T`, or nothing.
    pub(crate) fn optional_number<T: TryFrom<i64>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let number = self.row.try_get::<Option<i64>, _>(column).map_err(|_| self.corrupt(column))?;
        number.map(T::try_from).transpose().map_err(|_| self.corrupt(column))
    }

    /// The value of a stored enum number.
    pub(crate) fn coded<T>(
        &self,
        column: &'static str,
        decode: fn(i64) -> Option<T>,
    ) -> Result<T, StoreError> {
        decode(self.number(column)?).ok_or_else(|| self.corrupt(column))
    }

    /// The value of a stored enum number, or nothing.
    pub(crate) fn optional_coded<T>(
        &self,
        column: &'static str,
        decode: fn(i64) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        match self.optional_number(column)? {
            None => Ok(None),
            Some(number) => decode(number).map(Some).ok_or_else(|| self.corrupt(column)),
        }
    }
}

/// A time as stored. Times beyond 292 million years are held at the end of the column's range.
pub(crate) fn stored_ms(time_ms: u64) -> i64 {
    i64::try_from(time_ms).unwrap_or(i64::MAX)
}

/// A value as JSON text.
pub(crate) fn stored_json(
    table: &'static str,
    column: &'static str,
    value: &impl Serialize,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Encode { table, column, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_never_wrap() {
        assert_eq!(stored_ms(7), 7);
        assert_eq!(stored_ms(u64::MAX), i64::MAX);
    }
}
