//! The TDG.* leaves.
pub mod number;
