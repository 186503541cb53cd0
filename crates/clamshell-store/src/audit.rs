//! The audit trail: who did what, newest last. Records are only ever added, and removed by age and number.

use sqlx::any::AnyRow;

use crate::{
    Store, StoreError,
    row::{Columns, stored_ms},
};

const TABLE: &str = "audit_records";

/// How somebody proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditVia {
    /// A SigV4 signature.
    Signature,
    /// The cookie of a login.
    Cookie,
    /// A share link.
    Share,
    /// A bearer token.
    Token,
    /// Not at all: a login, or an attempt of one.
    Nothing,
}

/// How it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was done.
    Allowed,
    /// The caller may not.
    Denied,
    /// It could not be done.
    Failed,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Grows from record to record.
    pub id: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// ARN of the caller; empty when nobody is known.
    pub principal: String,
    /// Name of the user, role session or token's subject.
    pub user_name: String,
    /// Address of the caller.
    pub source_ip: String,
    /// How it proved who it is.
    pub via: AuditVia,
    /// For instance `clamshell:StopSession`.
    pub action: String,
    /// ARN, or `*`.
    pub resource: String,
    /// How it came out.
    pub outcome: AuditOutcome,
    /// HTTP status of the answer.
    pub status: u16,
    /// Id of the request.
    pub request_id: String,
    /// A JSON object with what else matters.
    pub detail: String,
}

/// Which records to read, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Older than this one.
    pub before: Option<u64>,
    /// Of this user.
    pub user_name: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// So many at most.
    pub limit: u32,
}

macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT id, at_ms, principal, user_name, source_ip, via, action, resource, outcome, status, \
             request_id, detail FROM audit_records WHERE id < $1 ",
            $condition,
            " ORDER BY id DESC LIMIT $2"
        )
    };
}

impl Store {
    /// Adds records, all or none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for record in records {
            sqlx::query(
                "INSERT INTO audit_records (id, at_ms, principal, user_name, source_ip, via, action, resource, \
                 outcome, status, request_id, detail) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            )
            .bind(stored_ms(record.id))
            .bind(stored_ms(record.at_ms))
            .bind(record.principal.as_str())
            .bind(record.user_name.as_str())
            .bind(record.source_ip.as_str())
            .bind(via_number(record.via))
            .bind(record.action.as_str())
            .bind(record.resource.as_str())
            .bind(outcome_number(record.outcome))
            .bind(i64::from(record.status))
            .bind(record.request_id.as_str())
            .bind(record.detail.as_str())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Records, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
        let before = filter.before.map_or(i64::MAX, stored_ms);
        // One text for each, so that SQLite picks an index for each.
        let query = match (&filter.user_name, &filter.action) {
            (None, None) => sqlx::query(select!("")),
            (Some(_), None) => sqlx::query(select!("AND user_name = $3")),
            (None, Some(_)) => sqlx::query(select!("AND action = $3")),
            (Some(_), Some(_)) => sqlx::query(select!("AND user_name = $3 AND action = $4")),
        };
        let mut query = query.bind(before).bind(i64::from(filter.limit));
        for text in [&filter.user_name, &filter.action].into_iter().flatten() {
            query = query.bind(text.as_str());
        }
        query.fetch_all(&self.readers).await?.iter().map(record_of).collect()
    }

    /// Id of the newest record; 0 when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_audit_id(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(id), 0) AS id FROM audit_records")
            .fetch_one(&self.readers)
            .await?;
        Columns::new(TABLE, &row).number("id")
    }

    /// Removes up to `at_once` records that are older than `before_ms` or not among the newest `rows_max`. Gives how many
    /// those were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trim_audit(&self, before_ms: u64, rows_max: u64, at_once: u32) -> Result<u64, StoreError> {
        let newest = self.last_audit_id().await?;
        let mut tx = self.write().await?;
        // Ids have no gaps but those of a failed write, so counting them is as good as counting rows.
        let removed = sqlx::query(
            "DELETE FROM audit_records WHERE id IN \
             (SELECT id FROM audit_records WHERE at_ms < $1 OR id <= $2 ORDER BY id LIMIT $3)",
        )
        .bind(stored_ms(before_ms))
        .bind(stored_ms(newest.saturating_sub(rows_max)))
        .bind(i64::from(at_once))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(removed.rows_affected())
    }
}

fn record_of(row: &AnyRow) -> Result<AuditRecord, StoreError> {
    let columns = Columns::new(TABLE, row);
    Ok(AuditRecord {
        id: columns.number("id")?,
        at_ms: columns.number("at_ms")?,
        principal: columns.text("principal")?,
        user_name: columns.text("user_name")?,
        source_ip: columns.text("source_ip")?,
        via: columns.coded("via", via)?,
        action: columns.text("action")?,
        resource: columns.text("resource")?,
        outcome: columns.coded("outcome", outcome)?,
        status: columns.number("status")?,
        request_id: columns.text("request_id")?,
        detail: columns.text("detail")?,
    })
}

fn via_number(via: AuditVia) -> i64 {
    match via {
        AuditVia::Signature => 1,
        AuditVia::Cookie => 2,
        AuditVia::Share => 3,
        AuditVia::Token => 4,
        AuditVia::Nothing => 5,
    }
}

fn via(number: i64) -> Option<AuditVia> {
    [AuditVia::Signature, AuditVia::Cookie, AuditVia::Share, AuditVia::Token, AuditVia::Nothing]
        .into_iter()
        .find(|via| via_number(*via) == number)
}

fn outcome_number(outcome: AuditOutcome) -> i64 {
    match outcome {
        AuditOutcome::Allowed => 1,
        AuditOutcome::Denied => 2,
        AuditOutcome::Failed => 3,
    }
}

fn outcome(number: i64) -> Option<AuditOutcome> {
    [AuditOutcome::Allowed, AuditOutcome::Denied, AuditOutcome::Failed]
        .into_iter()
        .find(|outcome| outcome_number(*outcome) == number)
}
