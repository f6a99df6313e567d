//! Who moves when: calm times, and between them plots, in which the packets of one node arrive one
//! by one while the other two hand the lead to and fro.
//!
//! What only one order of packets leads to is met by chance once in many thousand seconds of a
//! whole cluster: a first packet that meets a follower and a second one that meets a leader; an
//! answer that is lost with its link while a later one is not given yet. Here nothing is left to
//! the times that packets and elections take: whose turn it is, is drawn, so each order is about
//! as likely as any other.

use super::judge::{Call, judge};
use super::world::{NODES, World};
use crate::queue::Micros;

const MILLI: Micros = 1_000;
/// A lead ends, and another begins, once nobody was heard for so long.
const ELECTION: Micros = 310 * MILLI;
/// Who has lost a link dials again after this time, or a few times it.
const REDIAL: Micros = 25 * MILLI;
/// The times that a calm step takes.
const STEP_MAX: Micros = 2 * MILLI;
/// All is answered in so many steps after the last trouble, or never will be.
const STEPS_TO_CALM: usize = 20_000;
/// A new leader is there after so many tries, or the next plot goes on with the former one.
const TRIES: usize = 6;
/// A client has no more than so many requests without an answer.
const WAITS_MAX: usize = 12;
/// Plots of a run.
const PLOTS: usize = 10;
/// Commands of a run, at most: fewer entries than the machine's first checkpoint.
const COMMANDS_MAX: usize = 400;

/// What a run that went well has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) operations: u64,
    pub(super) placed: u64,
    pub(super) flips: u64,
    pub(super) digest: u64,
}

/// A run, from the founding to its verdict; panics if something is wrong.
pub(super) fn run(mut world: World) -> Result<Seen, String> {
    let mut seen = Seen::default();
    calm_down(&mut world, |world| world.leader().is_some())?;
    for _ in 0..PLOTS {
        if world.operations.len() < COMMANDS_MAX {
            match world.random.below(10) {
                0..3 => breaks(&mut world),
                3..5 => stalls(&mut world),
                5 => seen.flips += late_packets(&mut world),
                _ => seen.flips += plot(&mut world),
            }
        }
        world.check_invariants();
    }
    world.held.clear();
    world.slow.clear();
    (0..NODES).for_each(|at| world.finish_write(at));
    calm_down(&mut world, is_quiet)?;
    for client in 0..world.clients() {
        let all = KEYS.map(str::to_owned).to_vec();
        world.ask(client, vec![Call::Read(all)]);
    }
    calm_down(&mut world, is_quiet)?;
    let leader = world.leader().ok_or("nobody leads although all is well")?;
    let commit = world.replica(leader).ok_or("the leader has no replica")?.commit;
    let hashes: Vec<Option<u64>> = (0..NODES).map(|at| world.state_hash(at)).collect();
    if hashes.iter().any(|hash| *hash != hashes[0]) {
        return Err(format!("the replicas come to different states: {hashes:?}"));
    }
    seen.placed = judge(&world.operations, &world.payloads(leader, commit))?;
    seen.operations = world.operations.len() as u64;
    seen.digest = world.trace.digest();
    Ok(seen)
}

/// The keys, of different slots: so few that what is asked of one meets what is asked of another.
const KEYS: [&str; 3] = ["a", "b", "c"];

/// Lets everything arrive and time pass, until all is as wanted.
fn calm_down(world: &mut World, wanted: impl Fn(&World) -> bool) -> Result<(), String> {
    for _ in 0..STEPS_TO_CALM {
        if wanted(world) {
            return Ok(());
        }
        calm_step(world);
    }
    let waiting: Vec<usize> = (0..world.clients()).map(|client| world.waits(client)).collect();
    Err(format!(
        "it does not come to rest: {:?} leads, clients wait for {waiting:?}",
        world.leader()
    ))
}

/// Every request is answered, and all replicas are at one point.
fn is_quiet(world: &World) -> bool {
    let state = |at| world.replica(at).map(|seen| (seen.applied, seen.last, seen.term));
    let same = (0..NODES).all(|at| state(at) == state(0));
    let done = state(0).is_some_and(|(applied, last, _)| applied == last);
    same && done && (0..world.clients()).all(|client| world.waits(client) == 0)
}

/// Everything that is under way and not held arrives, and some time passes for all.
fn calm_step(world: &mut World) {
    world.answer_dials();
    for (from, to) in pairs() {
        if !world.held.contains(&(from, to)) {
            let count = world.under_way(from, to);
            world.deliver(from, to, count);
        }
    }
    let passed = 1 + world.random.below(STEP_MAX);
    (0..NODES).for_each(|at| world.pass(at, passed));
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    let all = (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to)
}

/// One node's packets are held back; the other two lead in turn, while these arrive one by one.
/// Gives how often another one came to lead.
fn plot(world: &mut World) -> u64 {
    let calm = world.random.below(8);
    for _ in 0..calm {
        some_ask(world, None);
        calm_step(world);
    }
    let third = world.random.position(NODES);
    let two: Vec<usize> = (0..NODES).filter(|at| *at != third).collect();
    if world.random.chance(30) {
        let slow = world.random.position(NODES);
        world.slow.insert(slow);
    }
    for at in &two {
        for way in [(third, *at), (*at, third)] {
            if world.random.chance(80) {
                world.held.insert(way);
            }
        }
    }
    let rounds = 1 + world.random.below(3);
    let mut flips = 0;
    for _ in 0..rounds {
        let asks = world.random.below(5);
        for _ in 0..asks {
            let place = world.random.chance(70).then_some(third);
            some_ask(world, place);
            if world.random.chance(50) {
                any_step(world);
            }
        }
        trickle(world, third);
        if world.random.chance(40) {
            let other = *world.random.pick(&two);
            world.reset(third, other);
            if world.random.chance(50) {
                relink(world, third, other);
            }
        }
        if world.random.chance(75) {
            flips += u64::from(flip(world, &two));
        }
        trickle(world, third);
    }
    let steps = world.random.below(40);
    for _ in 0..steps {
        any_step(world);
    }
    world.held.clear();
    for at in std::mem::take(&mut world.slow) {
        world.finish_write(at);
    }
    flips
}

/// The leader and one follower are alone, and their link breaks again and again while requests,
/// rounds and answers are on it: some are answered on the former link, some on the next one.
fn breaks(world: &mut World) {
    let Some(leader) = world.leader() else { return };
    let others: Vec<usize> = (0..NODES).filter(|at| *at != leader).collect();
    let origin = *world.random.pick(&others);
    for (from, to) in pairs().filter(|way| *way != (leader, origin) && *way != (origin, leader)) {
        world.held.insert((from, to));
    }
    let steps = 20 + world.random.below(60);
    for _ in 0..steps {
        match world.random.below(24) {
            0..5 => some_ask(world, Some(origin)),
            5 => some_ask(world, None),
            6..13 => {
                world.deliver(origin, leader, 1);
            }
            13..20 => {
                world.deliver(leader, origin, 1);
            }
            20 => {
                world.reset(leader, origin);
                relink(world, leader, origin);
            }
            21 => {
                world.slow.insert(leader);
            }
            22 => {
                world.slow.clear();
                (0..NODES).for_each(|at| world.finish_write(at));
            }
            _ => {
                let passed = world.random.below(STEP_MAX);
                (0..NODES).for_each(|at| world.pass(at, passed));
            }
        }
        world.answer_dials();
    }
    world.held.clear();
    for at in std::mem::take(&mut world.slow) {
        world.finish_write(at);
    }
}

/// What one node has sent the leader arrives only when that one leads again. Meanwhile it was sent
/// to another leader too, and answered. Gives how often another one came to lead.
fn late_packets(world: &mut World) -> u64 {
    let Some(leader) = world.leader() else { return 0 };
    let others: Vec<usize> = (0..NODES).filter(|at| *at != leader).collect();
    let late = *world.random.pick(&others);
    let two: Vec<usize> = (0..NODES).filter(|at| *at != late).collect();
    world.held.insert((late, leader));
    let mut flips = 0;
    for _ in 0..2 {
        let asks = 1 + world.random.below(4);
        for _ in 0..asks {
            some_ask(world, Some(late));
            if world.random.chance(50) {
                calm_step(world);
            }
        }
        flips += u64::from(flip(world, &two));
        let steps = world.random.below(12);
        for _ in 0..steps {
            calm_step(world);
        }
    }
    while world.under_way(late, leader) > 0 {
        let count = 1 + world.random.position(3);
        world.deliver(late, leader, count);
        if world.random.chance(30) {
            both_ways(world, two[0], two[1]);
        }
    }
    world.held.clear();
    flips
}

/// All disks stall again and again, and everything else goes on: reads wait for writes that wait for
/// a disk, until values have outlived their time, and all of it is served at once.
fn stalls(world: &mut World) {
    let origin = world.random.position(NODES);
    let stalls = 3 + world.random.below(5);
    for _ in 0..stalls {
        world.slow.extend(0..NODES);
        let steps = 2 + world.random.below(7);
        for _ in 0..steps {
            let place = world.random.chance(60).then_some(origin);
            some_ask(world, place);
            calm_step(world);
        }
        let ended = 1 + world.random.below(4);
        for _ in 0..ended {
            (0..NODES).for_each(|at| world.finish_write(at));
            calm_step(world);
        }
    }
    world.slow.clear();
    (0..NODES).for_each(|at| world.finish_write(at));
}

/// Two nodes hear that their link has broken, and one of them dials again.
fn relink(world: &mut World, one: usize, other: usize) {
    for (from, to) in [(one, other), (other, one)] {
        let count = world.under_way(from, to);
        world.deliver(from, to, count);
    }
    // Of two nodes the one with the lower number dials.
    for _ in 0..TRIES {
        world.pass(one.min(other), REDIAL);
        if world.answer_dials() {
            return;
        }
    }
}

/// Some of what one node has sent the others arrives, although it is held, and some of what they
/// have sent it.
fn trickle(world: &mut World, third: usize) {
    for other in (0..NODES).filter(|at| *at != third) {
        for (from, to, chance) in [(third, other, 60), (other, third, 25)] {
            let count = world.under_way(from, to);
            if count > 0 && world.random.chance(chance) {
                let count = 1 + world.random.position(count.min(4));
                (0..count).for_each(|_| {
                    world.deliver(from, to, 1);
                });
            }
        }
    }
}

/// Anything: something arrives, some time passes, a write becomes durable.
fn any_step(world: &mut World) {
    match world.random.below(10) {
        0..=6 => {
            let ways: Vec<(usize, usize)> = pairs()
                .filter(|way| !world.held.contains(way) && world.under_way(way.0, way.1) > 0)
                .collect();
            if !ways.is_empty() {
                let (from, to) = *world.random.pick(&ways);
                let count = 1 + world.random.position(3);
                world.deliver(from, to, count);
            }
        }
        7 => {
            let at = world.random.position(NODES);
            world.finish_write(at);
        }
        _ => {
            let passed = world.random.below(2 * STEP_MAX);
            (0..NODES).for_each(|at| world.pass(at, passed));
        }
    }
    world.answer_dials();
}

/// Of two nodes the one that leads is silent, gives up, and the other one asks for votes; or the
/// same one again. Says whether the lead has moved.
fn flip(world: &mut World, two: &[usize]) -> bool {
    let before = world.leader();
    let from = *two.iter().find(|at| Some(**at) == before).unwrap_or(&two[0]);
    let to = two.iter().copied().find(|at| *at != from).unwrap_or(from);
    // It has not heard a quorum for long: it leads no more.
    world.pass(from, ELECTION);
    let to = if world.random.chance(85) { to } else { from };
    let voter = two.iter().copied().find(|at| *at != to).unwrap_or(to);
    for _ in 0..TRIES {
        both_ways(world, voter, to);
        if world.leader().is_some_and(|at| at == to) {
            break;
        }
        world.pass(to, ELECTION);
    }
    // The first entry of its term is to be committed, or nothing of it, or all.
    let more = world.random.below(4);
    for _ in 0..more {
        both_ways(world, voter, to);
    }
    world.leader() != before
}

/// What two nodes have for each other arrives.
fn both_ways(world: &mut World, one: usize, other: usize) {
    for _ in 0..4 {
        let count = world.under_way(one, other);
        world.deliver(one, other, count);
        let count = world.under_way(other, one);
        if !world.deliver(other, one, count) && world.under_way(one, other) == 0 {
            return;
        }
        if world.random.chance(80) {
            world.finish_write(one);
            world.finish_write(other);
        }
    }
}

/// A client asks for something, or for several things at once: any one, or one of that node.
fn some_ask(world: &mut World, at: Option<usize>) {
    let able: Vec<usize> = (0..world.clients())
        .filter(|client| at.is_none_or(|at| world.home(*client) == at))
        .filter(|client| world.waits(*client) < WAITS_MAX)
        .collect();
    if able.is_empty() {
        return;
    }
    let client = *world.random.pick(&able);
    let count = if world.random.chance(70) { 1 } else { 2 + world.random.below(2) };
    let calls = (0..count).map(|at| call(world, at)).collect();
    world.ask(client, calls);
}

/// What a client may ask, as the `nth` of what it asks at once.
fn call(world: &mut World, nth: u64) -> Call {
    // No two writes have the same value.
    let number = world.operations.len() as u64 * 4 + nth;
    let random = &mut world.random;
    let key = |random: &mut crate::random::Random| (*random.pick(&KEYS)).to_owned();
    match random.below(100) {
        0..35 => Call::Read(vec![key(random)]),
        35..42 => Call::Read(KEYS[..2].iter().map(|key| (*key).to_owned()).collect()),
        42..65 => Call::Append { key: key(random), token: format!("t{number};").into_bytes() },
        65..80 => {
            let parts = vec![(key(random), format!("v{number};").into_bytes())];
            Call::Write { parts, lives_ms: None }
        }
        80..92 => {
            let parts = vec![(key(random), format!("v{number};").into_bytes())];
            Call::Write { parts, lives_ms: Some(1 + random.below(12)) }
        }
        _ => {
            let several = 2 + random.position(2);
            let value = |at: usize| format!("m{number}.{at};").into_bytes();
            let parts = KEYS[..several].iter().enumerate();
            let parts = parts.map(|(at, key)| ((*key).to_owned(), value(at))).collect();
            Call::Write { parts, lives_ms: None }
        }
    }
}
