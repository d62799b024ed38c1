//! Replays answers recorded from PyTorch through the public API: every case of `tests/fixtures`, and of the folder that
//! `GRADUS_CONFORMANCE` names, in float64 and float32.

mod array;
mod device;
mod format;
mod generate;
mod judge;
mod ops;
mod replay;

use crate::format::Group;
use crate::replay::Report;
use std::path::{Path, PathBuf};

/// Ops and options in the fixtures that the library does not have, one a line: shrink it when it learns them.
const UNCOVERED: &str = include_str!("uncovered.txt");

/// The folder of recorded answers that ships with the library, or where `GRADUS_FIXTURES` says that it was moved.
fn fixtures() -> PathBuf {
    let moved = std::env::var_os("GRADUS_FIXTURES").map(PathBuf::from);
    moved.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"))
}

/// Replays a folder and fails with the list of wrong answers.
fn replay(folder: &Path) -> Report {
    let mut report = Report::default();
    Group::read_all(folder).iter().for_each(|group| report.replay(group));
    let (passed, failed) = (report.passed, report.failed.len());
    println!("{}: {passed} passed, {failed} failed", folder.display());
    println!("not covered: {:?}", report.uncovered);
    assert!(report.failed.is_empty(), "{failed} wrong answers:\n{}", report.failed.join("\n"));
    report
}

#[test]
fn every_recorded_answer_is_reproduced() {
    let report = replay(&fixtures());
    let uncovered: Vec<&str> = report.uncovered.iter().map(String::as_str).collect();
    let listed: Vec<&str> = UNCOVERED.lines().collect();
    assert_eq!(
        uncovered, listed,
        "tests/conformance/uncovered.txt lists other ops than were found uncovered"
    );
}

#[test]
fn a_folder_named_by_the_environment_is_replayed_too() {
    if let Some(folder) = std::env::var_os("GRADUS_CONFORMANCE") {
        replay(Path::new(&folder));
    }
}
