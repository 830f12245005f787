//! Exams for logs and adapters, and the real servers they run against
