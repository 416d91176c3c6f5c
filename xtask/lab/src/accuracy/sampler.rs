//! Asks the sources again and again while something else goes on.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use parking_lot::Mutex;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    reading::{Readings, Source},
    sources::Sources,
};

const EVERY: Duration = Duration::from_millis(500);
/// The kubelet makes its text again for each question, which an emulated processor feels.
const KUBELET_TURN: u64 = 10;
/// As many questions may go unanswered, of a hundred.
const MOST_FAILED: usize = 5;

/// What is known so far.
#[derive(Default)]
struct Book {
    readings: Readings,
    asked: usize,
    failed: usize,
    last_error: String,
}

/// Asks until it is dropped.
pub struct Sampler {
    book: Arc<Mutex<Book>>,
    task: JoinHandle<()>,
}

impl Sampler {
    /// Begins to ask.
    pub fn start(sources: Sources) -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let task = tokio::spawn(ask(sources, Arc::clone(&book)));
        Self { book, task }
    }

    /// Looks at what was said so far.
    pub fn look<T>(&self, at: impl FnOnce(&Readings) -> T) -> T {
        at(&self.book.lock().readings)
    }

    /// An error if too many questions went unanswered.
    pub fn check(&self) -> Result<()> {
        let book = self.book.lock();
        if book.failed * 100 > book.asked * MOST_FAILED {
            bail!("{} of {} questions failed, the last: {}", book.failed, book.asked, book.last_error);
        }
        Ok(())
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask(mut sources: Sources, book: Arc<Mutex<Book>>) {
    let mut ticks = interval(EVERY);
    // Times at which an answer took long would count more than others if what was missed were made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for turn in 0_u64.. {
        ticks.tick().await;
        for source in Source::ALL {
            if source == Source::Kubelet && !turn.is_multiple_of(KUBELET_TURN) {
                continue;
            }
            let said = sources.ask(source).await;
            let mut book = book.lock();
            book.asked += 1;
            match said {
                Ok(said) => book.readings.keep(source, said.asked, said.answer),
                Err(error) => {
                    book.failed += 1;
                    book.last_error = format!("{source}: {error:#}");
                }
            }
        }
    }
}
