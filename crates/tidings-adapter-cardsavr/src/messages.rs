//! Messages: registrations, broadcasts, credential requests and responses, the cardholder's list.

use crate::routes::Row;

/// Rows 9 to 16.
pub(crate) fn routes() -> Vec<Row> {
    Vec::new()
}
