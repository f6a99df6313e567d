//! Traces of the simulator against the specification, and traces that were spoiled on purpose: the
//! specification has to allow all of the first, and to notice nearly all of the second.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, bail};
use flotilla_sim::{Script, trace_of};

use super::events::{Event, of_story};
use super::tlc::Tlc;
use super::{directory, scratch};

/// Families in which disks forget nothing: what they promised is what the specification is about.
const FAMILIES: [&str; 9] = [
    "leaders crash",
    "power loss",
    "partitions",
    "snapshots",
    "segments",
    "votes",
    "figure 8",
    "slow",
    "clocks",
];
/// A trace ends after so many events.
const EVENTS_MAX: usize = 450;
/// So many traces, and events in all of them, are checked at least.
const TRACES_FLOOR: usize = 100;
const EVENTS_FLOOR: usize = 30_000;
/// A spoiled trace goes on for so many events; what is not noticed by then is not noticed.
const AFTERMATH: usize = 120;
/// So many traces are spoiled.
const SPOILED: usize = 500;
/// So many of them have to be noticed, percent.
const NOTICED_FLOOR: usize = 95;

/// Checks traces; with `spoil`, also spoiled ones.
pub(super) fn check(tlc: &Tlc, spoil: bool) -> anyhow::Result<()> {
    let (traces, origins) = collect()?;
    let events: usize = traces.iter().map(Vec::len).sum();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for event in traces.iter().flatten() {
        *kinds.entry(event.kind).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    println!("{} traces, {events} events: {}", traces.len(), kinds.join(", "));
    let (allowed, _) = walk(tlc, &traces)?;
    let refused: Vec<usize> =
        (0..traces.len()).filter(|number| !allowed.contains(number)).collect();
    if let Some(&first) = refused.first() {
        bail!(
            "{} traces are not allowed: {refused:?}\n{}: {}",
            refused.len(),
            origins[first],
            why(tlc, &traces[first])?
        );
    }
    println!("all are allowed");
    if spoil {
        let (spoiled, what): (Vec<_>, Vec<_>) = spoil_some(&traces).into_iter().unzip();
        let (allowed, _) = walk(tlc, &spoiled)?;
        report(&what, &allowed)?;
    }
    Ok(())
}

/// Runs seeds of the families in turn until there is enough. Also says how to run each one again.
fn collect() -> anyhow::Result<(Vec<Vec<Event>>, Vec<String>)> {
    let (mut traces, mut origins): (Vec<Vec<Event>>, Vec<String>) = Default::default();
    for seed in 0..1_000 {
        let family = FAMILIES[seed as usize % FAMILIES.len()];
        let (story, outcome) = trace_of(&Script::of(family, seed));
        outcome.with_context(|| format!("seed {seed} of {family}"))?;
        for (shard, trace) in of_story(&story, EVENTS_MAX) {
            if trace.len() > 50 {
                traces.push(trace);
                origins.push(format!("shard {shard} of sim-one {seed} --family '{family}'"));
            }
        }
        let events: usize = traces.iter().map(Vec::len).sum();
        if traces.len() >= TRACES_FLOOR && events >= EVENTS_FLOOR {
            return Ok((traces, origins));
        }
    }
    bail!("a thousand seeds give fewer than {TRACES_FLOOR} traces or {EVENTS_FLOOR} events")
}

/// Walks traces in one run of TLC. Which of them come to their end, and the states seen.
fn walk(tlc: &Tlc, traces: &[Vec<Event>]) -> anyhow::Result<(BTreeSet<usize>, u64)> {
    let place = scratch("traces")?;
    for name in ["Raft.tla", "Trace.tla"] {
        fs::copy(directory().join(name), place.join(name))?;
    }
    fs::create_dir(place.join("models"))?;
    fs::copy(directory().join("models/traces.cfg"), place.join("models/traces.cfg"))?;
    fs::write(place.join("TraceData.tla"), module(traces))?;
    let report = tlc.run(&place, "Trace", "traces", None)?;
    if report.verdict != super::Verdict::Holds {
        bail!("TLC has failed\n{}", report.text);
    }
    let mut ended = BTreeSet::new();
    for line in report.text.lines() {
        if let Some(number) = line.strip_prefix("<<\"consumed\", ") {
            let number: usize = number.trim_end_matches(">>").parse()?;
            ended.insert(number - 1);
        }
    }
    Ok((ended, report.states))
}

/// The first event that is not allowed, and those before it.
fn why(tlc: &Tlc, trace: &[Event]) -> anyhow::Result<String> {
    // A trace is walked in one way only, a state for each event and one before them all.
    let (_, states) = walk(tlc, &[trace.to_vec()])?;
    let place = usize::try_from(states)?;
    let near: Vec<String> = trace.iter().take(place).map(Event::record).collect();
    let near = &near[near.len().saturating_sub(40)..];
    Ok(format!("the first of them from event {place} on, the last of these:\n{}", near.join("\n")))
}

fn module(traces: &[Vec<Event>]) -> String {
    let terms = traces.iter().flatten().flat_map(|event| &event.fields);
    let terms = terms.filter(|(name, _)| *name == "t").map(|(_, term)| *term);
    let term_max = terms.max().unwrap_or(1) + 1;
    let mut text = format!(
        "---- MODULE TraceData ----\nEXTENDS Naturals\n\
         e(t) == [t |-> t, c |-> [v |-> {{}}, o |-> {{}}, l |-> {{}}]]\n\
         c(t, v, o, l) == [t |-> t, c |-> [v |-> v, o |-> o, l |-> l]]\n\
         TraceMaxTerm == {term_max}\n"
    );
    for (number, trace) in traces.iter().enumerate() {
        let events: Vec<String> = trace.iter().map(Event::record).collect();
        writeln!(text, "T{number} == <<\n{}>>", events.join(",\n")).expect("a string takes all");
    }
    let names: Vec<String> = (0..traces.len()).map(|number| format!("T{number}")).collect();
    writeln!(text, "Traces == <<{}>>\n====", names.join(", ")).expect("a string takes all");
    text
}

/// What was done to a trace: the event's kind, the field, and the values.
type Spoiling = (&'static str, &'static str, u64, u64);

/// Spoils one field of one event of a trace, many times. Everything is drawn from a fixed sequence,
/// so that a count can be repeated.
fn spoil_some(traces: &[Vec<Event>]) -> Vec<(Vec<Event>, Spoiling)> {
    let mut state = 0x5eed_u64;
    let mut below = move |bound: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut spoiled = Vec::new();
    while spoiled.len() < SPOILED {
        let trace = &traces[below(traces.len())];
        // What comes last has nothing behind it that could notice.
        let place = below(trace.len() - trace.len() / 5);
        let mut copy = trace[..trace.len().min(place + AFTERMATH)].to_vec();
        let event = &mut copy[place];
        let entries = event.entries.as_ref().map_or(0, Vec::len);
        let choice = below(event.fields.len() + usize::from(entries > 0));
        let up = below(2) == 0;
        let moved = |value: u64| if up { value + 1 } else { value.wrapping_sub(1) };
        let (name, before, after) = if let Some((name, value)) = event.fields.get_mut(choice) {
            let before = *value;
            *value = match *name {
                "n" => 1 + (before + below(2) as u64) % 3,
                "v" if event.kind == "look" => 1 - before,
                "v" => (before + 1 + below(3) as u64) % 4,
                _ => moved(before),
            };
            (*name, before, *value)
        } else {
            let at = below(entries);
            let (term, _) = &mut event.entries.as_mut().expect("it has some")[at];
            let before = *term;
            *term = moved(before);
            ("es", before, *term)
        };
        if after <= 1 << 32 && before != after {
            spoiled.push((copy.clone(), (copy[place].kind, name, before, after)));
        }
    }
    spoiled
}

fn report(what: &[Spoiling], allowed: &BTreeSet<usize>) -> anyhow::Result<()> {
    let mut counts: BTreeMap<(&str, &str), [usize; 2]> = BTreeMap::new();
    for (number, (kind, field, ..)) in what.iter().enumerate() {
        let count = counts.entry((kind, field)).or_default();
        count[0] += 1;
        count[1] += usize::from(!allowed.contains(&number));
    }
    println!("\n| event | field | spoiled | noticed |\n|---|---|--:|--:|");
    for ((kind, field), [spoiled, noticed]) in &counts {
        println!("| {kind} | {field} | {spoiled} | {noticed} |");
    }
    let noticed = what.len() - allowed.len();
    println!("| all | | {} | {noticed} |", what.len());
    for number in allowed {
        let (kind, field, before, after) = what[*number];
        println!("- not noticed: {field} of {kind}, {after} for {before}");
    }
    if noticed * 100 < what.len() * NOTICED_FLOOR {
        bail!("{noticed} of {} are noticed, {NOTICED_FLOOR} % are wanted", what.len());
    }
    Ok(())
}
