//! The tasks, one a file.

pub(crate) mod bench;
pub(crate) mod broker;
pub(crate) mod check_image;
pub(crate) mod fuzz;
pub(crate) mod image;
pub(crate) mod measure;
mod persistent;
pub(crate) mod reproduce;
pub(crate) mod run;
pub(crate) mod state;
pub(crate) mod test;
