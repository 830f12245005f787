//! The log against real servers: the exam that every log passes, on each kind of deployment, and
//! what only this log can get wrong.

mod append;
mod common;
mod doctor;
mod exam_several;
mod exam_single;
mod failovers;
mod faults;
mod following;
mod ingest;
mod intercept;
mod records;
mod settings;
mod settling;
mod soundness;
