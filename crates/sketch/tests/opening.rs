//! Openings: an honest tree holds everywhere, and every lie is seen at the first false sum.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use convoke_protocol::identity::keccak;
use convoke_protocol::ids::Digest;
use convoke_protocol::sketch::{CHUNK_VALUES, Norm};
use convoke_sketch::inspect::{DeltaStats, measure};
use convoke_sketch::opening::{
    BadOpening, Claimed, Fault, OpenedSums, Opener, Opening, SumsTree, Verdict, bisect, check,
    first_fault,
};
use convoke_sketch::{Sketch, SketchError, Sums, project, quantize, sketch};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

const CHUNKS: usize = 7;
const SEED: Digest = Digest([9; 32]);

fn values(chunks: usize) -> Vec<f32> {
    let rng = ChaCha8Rng::seed_from_u64(3);
    let count = (chunks - 1) * CHUNK_VALUES + 201;
    StandardNormal.sample_iter(rng).take(count).collect()
}

fn commit(sketch: &Sketch) -> Digest {
    keccak(&[&sketch.to_bytes()])
}

/// The true sums after each chunk.
fn all_sums(values: &[f32], clip: Norm) -> Vec<Sums> {
    let ends = (1..=values.len().div_ceil(CHUNK_VALUES))
        .map(|chunks| values.len().min(chunks * CHUNK_VALUES));
    ends.map(|end| project(&values[..end], &SEED, clip).unwrap())
        .collect()
}

fn honest(opener: &Opener<'_, [f32]>, stats: &DeltaStats, clip: Norm) -> Claimed {
    Claimed {
        delta_root: stats.root,
        norm: stats.norm,
        seed: SEED,
        clip,
        sums_root: opener.sums_root(),
        commitment: commit(&quantize(opener.total(), stats.norm, clip)),
    }
}

/// A delta of seven chunks with its true claim.
fn setting(values: &[f32]) -> (Opener<'_, [f32]>, Claimed) {
    let clip = Norm::of(60.0);
    let opener = Opener::new(values, &SEED, clip).unwrap();
    let stats = measure(values).unwrap().unwrap();
    let claimed = honest(&opener, &stats, clip);
    (opener, claimed)
}

#[test]
fn every_chunk_of_an_honest_claim_holds() {
    let values = values(CHUNKS);
    let (opener, claimed) = setting(&values);
    let sketched = sketch(&values[..], &SEED, claimed.clip).unwrap();
    assert_eq!(opener.delta_root(), claimed.delta_root);
    assert_eq!(opener.sums_root(), sketched.sums_root);
    assert_eq!(*opener.total(), sketched.sums);
    assert_eq!(opener.count(), CHUNKS as u64);
    for index in 0..opener.count() {
        let opening = opener.open(index).unwrap();
        assert_eq!(check(&opening, &claimed, commit), Ok(Verdict::Honest));
    }
    let error = opener.open(CHUNKS as u64).unwrap_err();
    assert!(matches!(error, SketchError::NoChunk { index: 7, count: 7 }));
}

/// More chunks than one batch and one milestone have.
#[test]
fn sums_of_a_long_delta_are_computed_again_from_a_milestone() {
    let values = values(2_060);
    let (opener, claimed) = setting(&values);
    let sketched = sketch(&values[..], &SEED, claimed.clip).unwrap();
    assert_eq!(opener.sums_root(), sketched.sums_root);
    for index in [0, 1_023, 1_024, 1_025, 2_047, 2_048, 2_059] {
        let opening = opener.open(index).unwrap();
        assert_eq!(
            check(&opening, &claimed, commit),
            Ok(Verdict::Honest),
            "{index}"
        );
    }
}

/// The sums from chunk `from` on, each off by the same.
fn shifted(sums: &[Sums], from: usize, change: impl Fn(&mut Sums)) -> Vec<Sums> {
    let mut claimed = sums.to_vec();
    claimed[from..].iter_mut().for_each(change);
    claimed
}

fn open_lie(opener: &Opener<'_, [f32]>, lie: &[Sums], index: usize) -> Opening {
    let tree = SumsTree::new(lie);
    let before = index
        .checked_sub(1)
        .map(|before| tree.open(before).unwrap());
    let after = tree.open(index).unwrap();
    opener.open_claimed(index as u64, before, after).unwrap()
}

#[test]
fn a_false_sum_is_seen_where_it_begins_and_only_there() {
    let values = values(CHUNKS);
    let (opener, honest) = setting(&values);
    let truth = all_sums(&values, honest.clip);
    let changes: [fn(&mut Sums); 4] = [
        |s| s.lanes[0] += 1,
        |s| s.lanes[127] -= 1,
        |s| s.energy -= 1,
        |s| s.lanes[5] = i64::MIN,
    ];
    for (from, change) in (0..CHUNKS).flat_map(|from| changes.map(|change| (from, change))) {
        let lie = shifted(&truth, from, change);
        assert_eq!(first_fault(&truth, &lie), Some(from as u64));
        let last = lie.last().unwrap();
        let claimed = Claimed {
            sums_root: SumsTree::new(&lie).root(),
            commitment: commit(&quantize(last, honest.norm, honest.clip)),
            ..honest
        };
        let opening = open_lie(&opener, &lie, from);
        let verdict = check(&opening, &claimed, commit);
        assert_eq!(verdict, Ok(Verdict::Fault(Fault::Step)));
        // A true place of the lie shows nothing.
        if from > 1 {
            let opening = open_lie(&opener, &lie, from - 1);
            assert_eq!(check(&opening, &claimed, commit), Ok(Verdict::Honest));
        }
    }
}

#[test]
fn energies_that_no_delta_has_are_false_too() {
    let values = values(CHUNKS);
    let (opener, honest) = setting(&values);
    let mut opening = opener.open(0).unwrap();
    // The highest byte of the uint256.
    opening.after.bytes[32 * 32] = 1;
    assert_eq!(Sums::from_bytes(&opening.after.bytes), None);
    let leaf = convoke_protocol::sketch::sums_leaf(0, opening.count, &*opening.after.bytes);
    opening.after.proof = Vec::new();
    let claimed = Claimed {
        sums_root: leaf,
        ..honest
    };
    let verdict = check(&opening, &claimed, commit);
    assert_eq!(verdict, Ok(Verdict::Fault(Fault::Step)));
}

#[test]
fn a_false_commitment_or_norm_is_seen_at_the_last_chunk() {
    let values = values(CHUNKS);
    let (opener, honest) = setting(&values);
    let last = opener.open(CHUNKS as u64 - 1).unwrap();
    let other = Claimed {
        commitment: Digest([1; 32]),
        ..honest
    };
    let verdict = check(&last, &other, commit);
    assert_eq!(verdict, Ok(Verdict::Fault(Fault::Sketch)));
    let under = |factor: f64| {
        let norm = Norm::of(honest.norm.value() * factor);
        let commitment = commit(&quantize(opener.total(), norm, honest.clip));
        let claimed = Claimed {
            norm,
            commitment,
            ..honest
        };
        check(&last, &claimed, commit).unwrap()
    };
    assert_eq!(under(0.99), Verdict::Fault(Fault::Norm));
    // √(127/128) = 0.996 is the tolerance, and to declare more is to be clipped more.
    assert_eq!(under(0.997), Verdict::Honest);
    assert_eq!(under(2.0), Verdict::Honest);
    let first = opener.open(0).unwrap();
    assert_eq!(check(&first, &other, commit), Ok(Verdict::Honest));
}

#[test]
fn openings_of_something_else_are_refused() {
    let values = values(CHUNKS);
    let (opener, claimed) = setting(&values);
    let good = opener.open(3).unwrap();
    let changed = |change: &dyn Fn(&mut Opening)| {
        let mut opening = good.clone();
        change(&mut opening);
        check(&opening, &claimed, commit).unwrap_err()
    };
    assert_eq!(changed(&|o| o.index = 7), BadOpening::Place);
    assert_eq!(changed(&|o| o.index = u64::MAX), BadOpening::Place);
    assert_eq!(changed(&|o| o.before = None), BadOpening::Place);
    assert_eq!(changed(&|o| o.index = 0), BadOpening::Place);
    assert_eq!(changed(&|o| o.index = 2), BadOpening::Chunk);
    assert_eq!(changed(&|o| o.count = 8), BadOpening::Chunk);
    assert_eq!(changed(&|o| o.chunk.bytes[0] ^= 1), BadOpening::Chunk);
    assert_eq!(changed(&|o| o.chunk.proof.clear()), BadOpening::Chunk);
    for length in [0, 4, 8_188, 8_191, 8_196] {
        let error = changed(&|o| o.chunk.bytes.resize(length, 0));
        assert_eq!(error, BadOpening::Length(length));
    }
    assert_eq!(changed(&|o| o.after.bytes[9] ^= 1), BadOpening::Sums);
    assert_eq!(
        changed(&|o| o.before = Some(o.after.clone())),
        BadOpening::Sums
    );
    let first = opener.open(0).unwrap();
    let mut early: OpenedSums = first.after.clone();
    early.proof.clear();
    let with_before = Opening {
        before: Some(early),
        ..first
    };
    let error = check(&with_before, &claimed, commit).unwrap_err();
    assert_eq!(error, BadOpening::Place);
}

#[test]
fn lists_of_other_lengths_differ_where_the_shorter_ends() {
    let sums = all_sums(&values(3), Norm::of(1.0));
    assert_eq!(first_fault(&sums, &sums), None);
    assert_eq!(first_fault(&sums, &sums[..2]), Some(2));
    assert_eq!(first_fault(&sums[..1], &sums), Some(1));
}

proptest! {
    /// Whatever is false and true before, a false sum after a true one is found, in few steps.
    #[test]
    fn bisection_finds_where_falsehood_begins(
        mut lies in prop::collection::vec(any::<bool>(), 1..300),
    ) {
        let last = lies.len() - 1;
        lies[last] = true;
        let asked = Cell::new(0);
        let found = bisect(last as u64, |index| {
            asked.set(asked.get() + 1);
            Ok::<_, ()>(lies[index as usize])
        });
        let found = found.unwrap() as usize;
        prop_assert!(lies[found]);
        prop_assert!(found == 0 || !lies[found - 1]);
        prop_assert!(asked.get() <= 9);
    }

    /// Whatever somebody sends as an opening, the answer is a verdict.
    #[test]
    fn changed_openings_never_panic(
        index in any::<u64>(),
        count in any::<u64>(),
        length in 0usize..9_000,
        with_before in any::<bool>(),
        norm in any::<u32>(),
    ) {
        let values = values(1);
        let (opener, honest) = setting(&values);
        let mut opening = opener.open(0).unwrap();
        (opening.index, opening.count) = (index, count);
        opening.chunk.bytes.resize(length, 0x7f);
        opening.before = with_before.then(|| opening.after.clone());
        opening.chunk.proof.clear();
        let bytes = &opening.chunk.bytes;
        let claimed = Claimed {
            delta_root: convoke_protocol::sketch::chunk_leaf(index, count, bytes),
            norm: Norm::from_bits(norm).unwrap_or(Norm::ZERO),
            ..honest
        };
        let _ = check(&opening, &claimed, commit);
    }
}
