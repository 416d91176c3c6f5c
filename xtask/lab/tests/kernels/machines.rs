//! The machine that is up. Tests in a row that want the same one share it; after a failure the next gets a fresh one.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use libtest_mimic::{Failed, Trial};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use waggle_lab::{
    control::{Act, Answer},
    matrix::Row,
    paths::Paths,
    vm::{Boot, Vm},
};

/// The cgroups that tests make below the root.
pub const ROOTS: [&str; 6] =
    ["kubepods.slice", "kubepods", "kubelet.slice", "kubelet", "system.slice", "coming-and-going"];

/// Boots until the machine's clock runs right.
const BOOTS: u32 = 3;

/// What a machine is booted with beside the kernel. Machines with the same are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The kernel.
    pub row: &'static Row,
    /// Further options on its command line.
    pub options: &'static str,
}

struct Up {
    kind: Kind,
    vm: Arc<Vm>,
}

/// The machine that is up, if any.
#[derive(Default)]
pub struct Machines {
    up: Mutex<Option<Up>>,
    runtime: Mutex<Option<Arc<Runtime>>>,
}

impl Machines {
    /// A test on a machine of this kind.
    pub fn trial<F, T>(self: &Arc<Self>, name: String, kind: Kind, test: T) -> Trial
    where
        F: Future<Output = Result<()>> + Send + 'static,
        T: FnOnce(Arc<Vm>, &'static Row) -> F + Send + 'static,
    {
        let machines = Arc::clone(self);
        machine_test(name, move || machines.run(kind, test))
    }

    /// A test that starts what it needs itself. The machine that is up ends first.
    pub fn trial_alone<F, T>(self: &Arc<Self>, name: String, test: T) -> Trial
    where
        F: Future<Output = Result<()>> + Send + 'static,
        T: FnOnce(Paths) -> F + Send + 'static,
    {
        let machines = Arc::clone(self);
        machine_test(name, move || {
            *machines.up.lock() = None;
            let paths = Paths::from_environment()?;
            let runtime = machines.runtime()?;
            runtime.block_on(runtime.spawn(test(paths))).context("the test panicked")?
        })
    }

    /// Ends the machine that is up.
    pub fn end(&self) {
        *self.up.lock() = None;
    }

    fn run<F, T>(&self, kind: Kind, test: T) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
        T: FnOnce(Arc<Vm>, &'static Row) -> F,
    {
        let runtime = self.runtime()?;
        let mut up = self.up.lock();
        if up.as_ref().is_none_or(|up| up.kind != kind) {
            *up = None;
            // On a thread of the runtime, which outlives the test: QEMU ends with the thread that started it.
            let vm = runtime.block_on(runtime.spawn(boot(kind))).context("booting panicked")??;
            *up = Some(Up { kind, vm: Arc::new(vm) });
        }
        let vm = up.as_ref().map(|up| Arc::clone(&up.vm)).context("no machine is up")?;
        let outcome = runtime
            .block_on(runtime.spawn(test(Arc::clone(&vm), kind.row)))
            .context("the test panicked")
            .and_then(|outcome| outcome)
            .and_then(|()| runtime.block_on(clear(&vm)));
        if outcome.is_err() {
            *up = None;
        }
        outcome
    }

    fn runtime(&self) -> Result<Arc<Runtime>> {
        let mut runtime = self.runtime.lock();
        if let Some(runtime) = runtime.as_ref() {
            return Ok(Arc::clone(runtime));
        }
        let new = Arc::new(Runtime::new().context("cannot start a runtime")?);
        *runtime = Some(Arc::clone(&new));
        Ok(new)
    }
}

/// A test that is left out without a machine. It prints the line that `cargo xtask test` makes its table from.
fn machine_test(name: String, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    let label = name.replacen("::", " ", 1);
    let test = move || {
        let begun = Instant::now();
        println!();
        let outcome = run();
        let how = if outcome.is_ok() { "passed" } else { "failed" };
        println!("matrix {label} {how} {:.1}", begun.elapsed().as_secs_f64());
        outcome.map_err(|error| Failed::from(format!("{error:#}")))
    };
    Trial::test(name, test).with_ignored_flag(true)
}

/// A machine with the agent and the programs that run beside it.
async fn boot(kind: Kind) -> Result<Vm> {
    let paths = Paths::from_environment()?;
    let programs = ["waggle-agent", "examples/parity", "examples/follow", "examples/coming_and_going"];
    let files = programs.map(|program| {
        let path = paths.program_for(kind.row.architecture, program);
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = program.rsplit('/').next().unwrap_or_default();
        Ok((format!("bin/{name}"), 0o755, content))
    });
    let lockdown = kind.options.contains("lockdown");
    let label = format!("kernels-{}{}", kind.row.line, if lockdown { "-lockdown" } else { "" });
    let boot = Boot {
        label,
        architecture: kind.row.architecture,
        kernel: kind.row.line.to_owned(),
        processors: kind.row.processors,
        options: kind.options,
        no_modules: lockdown,
        file_system: kind.row.collector == "bpf" && !lockdown,
        files: files.into_iter().collect::<Result<_>>()?,
        ..Boot::default()
    };
    for _ in 0..BOOTS {
        let vm = Vm::boot(&paths, boot.clone()).await?;
        let rate = clock_rate(&vm).await?;
        println!("booted {} with {} processors, its clock runs at {rate:.3}", vm.kernel, kind.row.processors);
        if (rate - 1.0).abs() < 0.05 {
            return Ok(vm);
        }
    }
    bail!("the machine's clock runs wrong after {BOOTS} boots: is the host overloaded?")
}

/// How fast the machine's clock runs. A kernel that is not scheduled while it calibrates its clock against the timer of
/// an emulated machine gets a frequency wrong by factors.
async fn clock_rate(vm: &Vm) -> Result<f64> {
    let now = async || match vm.node.act(Act::Read(Vec::new())).await? {
        Answer::Files { boot_ns, .. } => Ok(boot_ns),
        other => bail!("an odd answer: {other:?}"),
    };
    let (begun, first) = (Instant::now(), now().await?);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (took, second) = (begun.elapsed(), now().await?);
    Ok(second.saturating_sub(first) as f64 / took.as_nanos() as f64)
}

/// Ends whatever a test left behind.
async fn clear(vm: &Vm) -> Result<()> {
    for root in ROOTS {
        vm.node.act(Act::EndCgroup(root.to_owned())).await?;
    }
    Ok(())
}
