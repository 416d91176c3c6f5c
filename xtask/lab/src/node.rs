//! The host's end of the control channel: requests and their answers, and what the node tells by itself.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::{Notify, oneshot},
    time::{sleep, timeout},
};

use crate::control::{Act, Answer, FromNode, Program, Request, Totals};

/// How long an answer may take; a program run to its end has [`RUN_LIMIT`].
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const RUN_LIMIT: Duration = Duration::from_mins(4);

/// Something that the node told by itself, and when it reached the host.
#[derive(Debug, Clone)]
pub struct Event {
    /// When it came.
    pub at: Instant,
    /// What it is.
    pub what: FromNode,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<Result<Answer, String>>>,
    events: Vec<Event>,
    dead: Option<String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

/// A node in a virtual machine.
pub struct Node {
    shared: Arc<Shared>,
    to: tokio::sync::Mutex<OwnedWriteHalf>,
    next: AtomicU64,
}

/// Lets somebody else (the watch on the console) declare the node dead.
#[derive(Clone)]
pub struct Obituary {
    shared: Arc<Shared>,
}

impl Obituary {
    /// All requests, now and later, fail with this reason. The first reason stays.
    pub fn publish(&self, reason: String) {
        let mut state = self.shared.state.lock();
        state.dead.get_or_insert(reason);
        state.waiting.clear();
        drop(state);
        self.shared.changed.notify_waiters();
    }
}

impl Node {
    /// Connects to the socket of the second serial port, which QEMU makes when it starts.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => break stream,
                Err(_) if begun.elapsed() < Duration::from_secs(5) => sleep(Duration::from_millis(10)).await,
                Err(error) => {
                    return Err(error).with_context(|| format!("QEMU made no socket {}", socket.display()));
                }
            }
        };
        let (from, to) = stream.into_split();
        let shared = Arc::new(Shared::default());
        let obituary = Obituary { shared: Arc::clone(&shared) };
        let reader = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut lines = BufReader::new(from).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                reader.take(&line);
            }
            obituary.publish("the virtual machine has ended".to_owned());
        });
        Ok(Self { shared, to: tokio::sync::Mutex::new(to), next: AtomicU64::new(1) })
    }

    /// For the watch on the console.
    pub fn obituary(&self) -> Obituary {
        Obituary { shared: Arc::clone(&self.shared) }
    }

    /// Asks the node to do something and waits until it is done.
    pub async fn act(&self, act: Act) -> Result<Answer> {
        let limit = if matches!(act, Act::Run(_)) { RUN_LIMIT } else { ANSWER_LIMIT };
        self.act_within(act, limit).await
    }

    async fn act_within(&self, act: Act, limit: Duration) -> Result<Answer> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answered, answer) = oneshot::channel();
        {
            let mut state = self.shared.state.lock();
            if let Some(reason) = &state.dead {
                bail!("{reason}");
            }
            state.waiting.insert(id, answered);
        }
        let what = format!("{act:?}");
        let mut line = serde_json::to_vec(&Request { id, act }).context("cannot write a request as JSON")?;
        line.push(b'\n');
        self.to.lock().await.write_all(&line).await.context("cannot write to the node")?;
        match timeout(limit, answer).await {
            Ok(Ok(result)) => result.map_err(|error| anyhow!("the node cannot do {what}: {error}")),
            Ok(Err(_)) => Err(self.death()),
            Err(_) => bail!("the node did not answer within {} s: {what}", limit.as_secs()),
        }
    }

    /// Runs a program to its end: exit code and output.
    pub async fn run(&self, program: Program) -> Result<(i32, String)> {
        self.run_within(program, RUN_LIMIT).await
    }

    /// The same with a limit for how long the program may take.
    pub async fn run_within(&self, program: Program, limit: Duration) -> Result<(i32, String)> {
        match self.act_within(Act::Run(program), limit).await? {
            Answer::Ended { status, output } => Ok((status, output)),
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// Sends a signal to a process and waits for its end.
    pub async fn signal(&self, name: &str, signal: i32) -> Result<()> {
        self.act(Act::Signal { name: name.to_owned(), signal }).await.map(drop)
    }

    /// Reads one file.
    pub async fn read(&self, path: &str) -> Result<String> {
        let texts = self.read_all(vec![path.to_owned()]).await?;
        texts.into_iter().next().flatten().with_context(|| format!("the node has no readable {path}"))
    }

    /// Reads files one right after the other; `None` for one that cannot be read.
    pub async fn read_all(&self, paths: Vec<String>) -> Result<Vec<Option<String>>> {
        match self.act(Act::Read(paths)).await? {
            Answer::Files { texts, .. } => Ok(texts),
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// The node's own record of its totals.
    pub async fn totals(&self) -> Result<Vec<Totals>> {
        match self.act(Act::Totals).await? {
            Answer::Totals(totals) => Ok(totals),
            other => bail!("an odd answer: {other:?}"),
        }
    }

    /// Waits for the first event that `wanted` accepts, those that came already included.
    pub async fn event<T>(&self, limit: Duration, wanted: impl Fn(&Event) -> Option<T>) -> Result<T> {
        let search = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let state = self.shared.state.lock();
                    if let Some(found) = state.events.iter().find_map(&wanted) {
                        return Ok(found);
                    }
                    if let Some(reason) = &state.dead {
                        bail!("{reason}");
                    }
                }
                changed.await;
            }
        };
        timeout(limit, search).await.context("the node did not tell what was waited for")?
    }

    fn death(&self) -> anyhow::Error {
        let state = self.shared.state.lock();
        anyhow!("{}", state.dead.as_deref().unwrap_or("the node dropped the request"))
    }
}

impl Shared {
    fn take(&self, line: &str) {
        let Ok(message) = serde_json::from_str(line) else {
            tracing::warn!(line, "the node sent something that is not a message");
            return;
        };
        let mut state = self.state.lock();
        match message {
            FromNode::Reply { id, result } => {
                if let Some(waiting) = state.waiting.remove(&id) {
                    // Nobody listens any more if the request timed out.
                    let _ = waiting.send(result);
                }
            }
            what => state.events.push(Event { at: Instant::now(), what }),
        }
        drop(state);
        self.changed.notify_waiters();
    }
}
