use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::collect::CgroupId;
use crate::collect::tree::Directory;
use crate::identify::locate;

/// A container whose id follows from its number, so that a wrong identity shows.
fn directory(id: u64) -> Directory {
    let path = format!("/kubepods/podd6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b/{id:064x}");
    let identity = Some(Arc::new(locate(&path).unwrap().identity));
    Directory { id: CgroupId(id), path: path.into(), role: Role::Container, identity, state: None }
}

fn listing(ids: impl IntoIterator<Item = u64>) -> Listing {
    Listing { directories: ids.into_iter().map(directory).collect(), unreadable: 0 }
}

fn update(identities: &mut Identities, ids: &[u64]) -> bool {
    identities.update(ids.iter().copied(), false)
}

fn found(identities: &Identities) -> Vec<(usize, String, bool)> {
    let text = |cgroup: &Cgroup| cgroup.path.display().to_string();
    identities.ascending().map(|(at, cgroup, late)| (at, text(cgroup), late)).collect()
}

#[test]
fn a_listing_is_needed_for_new_ids_alone() {
    let mut identities = Identities::default();
    assert!(!update(&mut identities, &[]));
    assert!(update(&mut identities, &[7, 3]));
    identities.learn(listing([3, 7, 9]));
    let path = |id: u64| directory(id).path.display().to_string();
    assert_eq!(found(&identities), [(1, path(3), false), (0, path(7), false)], "ascending by id");
    assert!(
        !update(&mut identities, &[7, 3])
            && !update(&mut identities, &[3, 7])
            && !update(&mut identities, &[7])
    );
    assert!(update(&mut identities, &[7, 3]), "forgotten, and so new");
}

/// A directory that cannot be read hides its pods for as long as that lasts, and no longer.
#[test]
fn an_id_that_listings_do_not_show_is_looked_for_ever_more_rarely_and_found_at_last() {
    let mut identities = Identities::default();
    let mut listings = Vec::new();
    for walk in 1..=300 {
        if update(&mut identities, &[3]) {
            listings.push(walk);
            identities.learn(listing([]));
        }
    }
    assert_eq!(listings, [1, 2, 4, 8, 16, 32, 64, 128, 192, 256]);
    assert_eq!(identities.unlisted(), 1);
    let due = (0..64).find(|_| update(&mut identities, &[3])).unwrap();
    assert!(due < 64);
    identities.learn(listing([3]));
    let [(0, _, late)] = &found(&identities)[..] else { panic!("{:?}", found(&identities)) };
    assert!(late, "it was there before");
    assert_eq!(identities.unlisted(), 0);
}

#[test]
fn what_is_new_after_an_uncertain_walk_may_be_older() {
    let mut identities = Identities::default();
    update(&mut identities, &[1]);
    identities.learn(listing([1]));
    identities.update([1, 2].into_iter(), true);
    identities.learn(listing([1, 2]));
    assert_eq!(identities.ascending().map(|(_, _, late)| late).collect::<Vec<_>>(), [false, true]);
}

proptest! {
    /// Against a model that keeps, for each id, what listings have shown while it was walked.
    #[test]
    fn identities_are_those_that_listings_showed(
        steps in proptest::collection::vec(
            (proptest::collection::btree_set(1u64..12, 0..8), proptest::collection::btree_set(1u64..12, 0..12), any::<bool>()),
            1..40,
        ),
    ) {
        let mut identities = Identities::default();
        let mut model: BTreeMap<u64, bool> = BTreeMap::new();
        for (walked, shown, reverse) in steps {
            let mut ids: Vec<u64> = walked.iter().copied().collect();
            if reverse {
                ids.reverse();
            }
            model.retain(|id, _| walked.contains(id));
            let new: BTreeSet<u64> = walked.iter().copied().filter(|id| !model.contains_key(id)).collect();
            model.extend(new.iter().map(|id| (*id, false)));
            let needed = update(&mut identities, &ids);
            prop_assert!(needed || new.is_empty(), "a new id needs a listing");
            if needed {
                identities.learn(listing(shown.iter().copied()));
                for (id, known) in &mut model {
                    *known |= shown.contains(id);
                }
            }
            let expected: Vec<u64> = model.iter().filter(|(_, known)| **known).map(|(id, _)| *id).collect();
            let mut seen = Vec::new();
            for (at, cgroup, _) in identities.ascending() {
                prop_assert_eq!(&*cgroup.path, &*directory(ids[at]).path, "position and identity belong together");
                seen.push(ids[at]);
            }
            prop_assert_eq!(seen, expected, "all that were shown, ascending");
            prop_assert_eq!(identities.unlisted(), model.values().filter(|known| !**known).count());
        }
    }
}
