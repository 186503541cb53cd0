//! Records beside the bytes: when output came, and what happened to the terminal.

/// Bytes of one record on disk.
pub const EVENT_BYTES: usize = 24;

/// Something that happened at an offset of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Offset of the log at which it happened; for output, of the first byte.
    pub offset: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// What happened.
    pub kind: EventKind,
}

/// Kinds of events. The numbers are stored and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Output from this offset on came at this time (1).
    Output,
    /// The terminal has this size from here on (2).
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// A run of the shell starts with this size (3).
    Start {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// The run ended (4).
    End,
}

impl Event {
    /// The record as stored.
    pub fn to_bytes(self) -> [u8; EVENT_BYTES] {
        let (kind, cols, rows) = match self.kind {
            EventKind::Output => (1, 0, 0),
            EventKind::Resize { cols, rows } => (2, cols, rows),
            EventKind::Start { cols, rows } => (3, cols, rows),
            EventKind::End => (4, 0, 0),
        };
        let mut bytes = [0; EVENT_BYTES];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.time_ms.to_le_bytes());
        bytes[16] = kind;
        bytes[20..22].copy_from_slice(&u16::to_le_bytes(cols));
        bytes[22..].copy_from_slice(&u16::to_le_bytes(rows));
        bytes
    }

    /// Reads a record; `None` when its kind is unknown or its size is zero.
    pub fn from_bytes(bytes: &[u8; EVENT_BYTES]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk::<8>()?;
        let (time_ms, rest) = rest.split_first_chunk::<8>()?;
        let [kind, _, _, _, cols_low, cols_high, rows_low, rows_high] = rest else { return None };
        let cols = u16::from_le_bytes([*cols_low, *cols_high]);
        let rows = u16::from_le_bytes([*rows_low, *rows_high]);
        let kind = match kind {
            1 => EventKind::Output,
            2 if cols > 0 && rows > 0 => EventKind::Resize { cols, rows },
            3 if cols > 0 && rows > 0 => EventKind::Start { cols, rows },
            4 => EventKind::End,
            _ => return None,
        };
        Some(Self { offset: u64::from_le_bytes(*offset), time_ms: u64::from_le_bytes(*time_ms), kind })
    }
}
