//! What an application's pods use: each by itself, and what all of them share. Pure.

use std::collections::BTreeMap;

use super::Load;
use crate::metrics::quantity;

/// Annotations of a pod with this prefix and a container's name say what that container uses, as `250m,64Mi`: CPU and
/// working set.
pub const LOAD_ANNOTATION: &str = "load.waggle.test/";

/// What one container of each pod of an application uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// In every pod, however many there are.
    pub each: Load,
    /// CPU that the work of the whole application needs: the pods that run share it evenly.
    pub shared_nanocores: u64,
}

impl Demand {
    /// The same in every pod.
    pub const fn each(load: Load) -> Self {
        Self { each: load, shared_nanocores: 0 }
    }

    /// CPU for all pods together, in thousandths of a processor, and what each holds besides.
    pub const fn shared(millicores: u64, each: Load) -> Self {
        Self { each, shared_nanocores: millicores * 1_000_000 }
    }

    /// What one of this many pods uses.
    pub fn of_one(self, pods: usize) -> Load {
        let pods = u64::try_from(pods).unwrap_or(u64::MAX);
        let share = self.shared_nanocores.checked_div(pods).unwrap_or_default();
        Load { nanocores: self.each.nanocores + share, ..self.each }
    }
}

/// What a pod's annotations say, by container. One that cannot be read says nothing.
pub fn annotated(annotations: &BTreeMap<String, String>) -> BTreeMap<String, Load> {
    let loads = annotations
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(LOAD_ANNOTATION)?.to_owned(), parse(value)?)));
    loads.collect()
}

fn parse(text: &str) -> Option<Load> {
    let (cpu, memory) = text.split_once(',')?;
    let (cores, bytes) = (quantity(cpu.trim()).ok()?, quantity(memory.trim()).ok()?);
    Some(Load { nanocores: whole(cores * 1e9)?, working_set_bytes: whole(bytes)?, ..Load::default() })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, by the line before")]
fn whole(value: f64) -> Option<u64> {
    let value = value.round();
    (0.0..9e15).contains(&value).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_share_what_the_application_needs() {
        let demand = Demand::shared(900, Load::new(10, 64));
        assert_eq!(demand.of_one(1).nanocores, 910_000_000);
        assert_eq!(demand.of_one(3).nanocores, 310_000_000);
        assert_eq!(demand.of_one(3).working_set_bytes, 64 << 20);
        assert_eq!(demand.of_one(0).nanocores, 10_000_000, "nobody is there to share");
        assert_eq!(Demand::each(Load::new(10, 64)).of_one(7), Load::new(10, 64));
    }

    #[test]
    fn annotations_say_cpu_and_memory() {
        let annotations = [
            ("load.waggle.test/web", "250m,64Mi"),
            ("load.waggle.test/proxy", "2, 1Gi"),
            ("load.waggle.test/odd", "much"),
            ("load.waggle.test/less", "-1,5"),
            ("other/web", "1,1"),
        ];
        let loads = annotated(&annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let seen = loads.iter().map(|(name, load)| (name.as_str(), load.nanocores, load.working_set_bytes));
        assert_eq!(
            seen.collect::<Vec<_>>(),
            [("proxy", 2_000_000_000, 1 << 30), ("web", 250_000_000, 64 << 20)]
        );
    }
}
