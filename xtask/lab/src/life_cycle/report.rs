//! The list of steps as it is printed: each with its time and what was measured, and the sum at the end.

use std::time::Instant;

use anyhow::Result;

/// What has been done so far.
#[derive(Debug, Default)]
pub struct Report {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Report {
    /// Does a step, and says how it went: whether it passed. The step says what it measured.
    pub async fn step(&mut self, name: &str, step: impl Future<Output = Result<String>>) -> bool {
        println!("==> {name}");
        let begun = Instant::now();
        // Boxed: one step after the other, each with large futures of its own.
        let outcome = Box::pin(step).await;
        let took = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(measured) => {
                self.passed += 1;
                println!("    passed in {took:.1} s: {measured}");
                true
            }
            Err(error) => {
                self.failed += 1;
                println!("    FAILED after {took:.1} s: {error:#}");
                false
            }
        }
    }

    /// Counts a step that cannot be done here.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.skipped += 1;
        println!("==> {name}: skipped, {why}");
    }

    /// Prints the sum. Whether nothing failed, and something was done.
    pub fn finish(self) -> bool {
        let Self { passed, failed, skipped } = self;
        println!("\n{passed} passed, {failed} failed, {skipped} skipped");
        failed == 0 && passed > 0
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn a_failed_step_is_counted_and_the_next_is_done() {
        let mut report = Report::default();
        assert!(!report.step("one", async { bail!("no") }).await);
        assert!(report.step("two", async { Ok("1 s".to_owned()) }).await);
        report.skip("three", "there is no third");
        assert_eq!((report.passed, report.failed, report.skipped), (1, 1, 1));
        assert!(!report.finish());
        assert!(!Report::default().finish(), "nothing was done");
    }
}
