//! Counts: what passed, failed and was skipped, read from the output of `cargo test`. Pure.

use std::ops::AddAssign;

/// Numbers of tests, or of checks that count as one test each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Tally {
    pub const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    pub const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    pub const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    /// Whether the run may be called green: nothing failed, and something was run.
    pub fn is_green(self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Adds up all `test result:` lines. A run that ended badly without saying that a test failed (it did not build, a
/// test process died) counts as one failure: it must not look green.
pub fn of_cargo_test(output: &str, succeeded: bool) -> Tally {
    let mut tally = Tally::default();
    for line in output.lines().filter(|line| line.starts_with("test result:")) {
        for part in line.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(word)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match word {
                "passed" => tally.passed += number,
                "failed" => tally.failed += number,
                "ignored" => tally.skipped += number,
                _ => {}
            }
        }
    }
    if !succeeded && tally.failed == 0 {
        tally.failed = 1;
    }
    tally
}

/// The tests that were skipped, each with the reason that it gives.
pub fn ignored(output: &str) -> impl Iterator<Item = &str> {
    output.lines().filter(|line| line.starts_with("test ") && line.contains(" ... ignored"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "running 3 tests\ntest a ... ok\ntest b ... ignored, needs a machine\n\
        test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
        test result: FAILED. 40 passed; 3 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.50s\n";

    #[test]
    fn result_lines_are_added_up() {
        assert_eq!(of_cargo_test(OUTPUT, false), Tally { passed: 42, failed: 3, skipped: 1 });
        assert_eq!(ignored(OUTPUT).collect::<Vec<_>>(), ["test b ... ignored, needs a machine"]);
    }

    #[test]
    fn a_run_that_broke_off_is_a_failure() {
        assert_eq!(of_cargo_test("error: could not compile", false), Tally::FAILED);
        let died = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\nerror: signal 11";
        assert_eq!(of_cargo_test(died, false), Tally { passed: 2, failed: 1, skipped: 0 });
    }

    #[test]
    fn nothing_run_is_not_green() {
        assert!(!of_cargo_test("", true).is_green());
        assert!(!Tally::SKIPPED.is_green());
        assert!(Tally::PASSED.is_green());
    }
}
