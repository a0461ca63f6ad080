//! The command line: one file a subcommand, each of which parses, calls the library and prints.
pub mod console;
pub mod demo;
pub mod failure;
pub mod report;
