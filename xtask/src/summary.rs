//! The table kernels × tests, from the lines that the test program `kernels` prints. Pure.

use std::fmt::Write as _;

use crate::setup::kernels::matrix::{ROWS, Row};

/// What a line begins with that names an outcome: kernel, test, `passed` or `failed`, seconds.
const MARK: &str = "matrix ";

/// The table; empty if the output has no such line. A kernel without an outcome gets its row nevertheless.
pub fn table(output: &str) -> String {
    let outcomes: Vec<[&str; 4]> = output
        .lines()
        .filter_map(|line| line.strip_prefix(MARK))
        .filter_map(|line| line.split_whitespace().collect::<Vec<_>>().try_into().ok())
        .collect();
    let mut tests: Vec<&str> = Vec::new();
    for [line, test, ..] in &outcomes {
        if ROWS.iter().any(|row| row.line == *line) && !tests.contains(test) {
            tests.push(test);
        }
    }
    let mut table = String::new();
    if tests.is_empty() {
        return table;
    }
    let _ = write!(table, "{:<15} {:>4}  {:<9} {:<16}", "kernel", "CPUs", "layout", "collector");
    for test in &tests {
        let _ = write!(table, " {test:>16}");
    }
    table.push('\n');
    for Row { line, processors, layout, collector, refusal, .. } in ROWS {
        let collector = refusal.unwrap_or(collector);
        let _ = write!(table, "{line:<15} {processors:>4}  {layout:<9} {collector:<16}");
        for test in &tests {
            let outcome = outcomes.iter().find(|[kernel, name, ..]| kernel == line && name == test);
            let cell = outcome.map_or_else(|| "-".to_owned(), |[.., how, took]| format!("{how} {took} s"));
            let _ = write!(table, " {cell:>16}");
        }
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_has_a_row_and_each_test_a_column() {
        let output = "running 3 tests\nmatrix 6.12 check passed 7.1\nok\nmatrix 6.12 idle failed 3.0\n\
                      matrix 7 check passed 6.0\nmatrix layouts kind passed 1.0\n";
        let table = table(output);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["kernel", "CPUs", "layout", "collector", "check", "idle"]);
        assert_eq!(lines.len(), ROWS.len() + 1);
        let of = |line: &str| lines.iter().find(|cells| cells[0] == line).unwrap()[4..].join(" ");
        assert_eq!(of("6.12"), "passed 7.1 s failed 3.0 s");
        assert_eq!(of("7"), "passed 6.0 s -");
        assert_eq!(of("5.10"), "- -");
    }

    #[test]
    fn without_outcomes_there_is_no_table() {
        assert_eq!(table("running 0 tests\nmatrix layouts kind passed 1.0\n"), "");
    }
}
