//! Exams for logs and adapters, and the real servers they run against

pub mod adapter_exam;
pub mod log_exam;
pub mod servers;
pub mod transcript;
