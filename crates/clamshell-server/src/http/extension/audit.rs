//! The audit trail, newest first.

use clamshell_store::AuditFilter;
use clamshell_wire::AwsError;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::Ask;
use crate::{
    audit,
    http::{
        ApiError,
        response::{self, Body},
    },
};

/// Records of one answer, unless asked otherwise.
const LIMIT: u32 = 100;

/// Records of one answer at most: a megabyte or two.
const LIMIT_MAX: u32 = 1_000;

pub(super) async fn read(ask: &Ask<'_>) -> Result<Response<Body>, ApiError> {
    let number = |name: &str| match ask.param(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| AwsError::invalid_field(name, "Member must be a number of 0 or more")),
    };
    let limit = match number("limit")? {
        None => LIMIT,
        Some(limit) => {
            u32::try_from(limit).ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
                AwsError::invalid_field("limit", &format!("Member must be between 1 and {LIMIT_MAX}"))
            })?
        }
    };
    let filter = AuditFilter {
        before: number("before")?,
        user_name: ask.param("user").map(str::to_owned),
        action: ask.param("action").map(str::to_owned),
        limit,
    };
    let records = ask.app.store.list_audit(&filter).await?;
    let is_full = records.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let next_before = records.last().filter(|_| is_full).map(|record| record.id);
    let records: Vec<Value> = records.iter().map(audit::view).collect();
    Ok(response::json(StatusCode::OK, &json!({ "records": records, "nextBefore": next_before })))
}
