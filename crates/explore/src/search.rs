//! Breadth-first search over distinct states, on several threads.
//!
//! A state is remembered as a 64-bit word, and as the state and the action it came from; it is made
//! again by repeating the actions from the beginning. So a state costs some 20 bytes, and whatever
//! is found comes with a shortest way to it. Neighbours share most of their way, so little is
//! repeated.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use hashbrown::HashSet;

use crate::cluster::{Action, Cluster};
use crate::{SameWord, Scope};

/// The set of words is cut into so many, each behind a lock of its own.
const SHARDS: usize = 256;
/// A thread takes so many states at a time.
const CHUNK: usize = 64;

/// What a search has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explored {
    /// Distinct states.
    pub states: u64,
    /// Steps taken.
    pub steps: u64,
    /// Every state that so many actions lead to was seen.
    pub depth: usize,
    /// Whether there is nothing more within the bounds.
    pub whole: bool,
}

/// A claim that does not hold, and the way there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The scope.
    pub scope: &'static str,
    /// What is wrong.
    pub reason: String,
    /// What happened, in order.
    pub story: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} after {} steps:", self.scope, self.reason, self.story.len())?;
        self.story.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl std::error::Error for Violation {}

/// A state, by where it came from. The first one came from nowhere.
#[derive(Clone, Copy)]
struct Place {
    from: u32,
    action: Action,
}

struct Search<'a> {
    scope: &'a Scope,
    root: Cluster,
    seen: Vec<Mutex<HashSet<u64, SameWord>>>,
    states: AtomicU64,
    steps: AtomicU64,
    full: AtomicBool,
    wrong: Mutex<Option<(u32, Option<Action>, String)>>,
}

/// Explores a scope on so many threads.
pub fn explore(scope: &Scope, threads: usize) -> Result<Explored, Violation> {
    let search = Search {
        scope,
        root: scope.root(),
        seen: (0..SHARDS).map(|_| Mutex::default()).collect(),
        states: AtomicU64::new(0),
        steps: AtomicU64::new(0),
        full: AtomicBool::new(false),
        wrong: Mutex::new(None),
    };
    search.is_new(search.root.word());
    let mut places = vec![Place { from: u32::MAX, action: Action::Wake(0) }];
    let (mut level, mut depth) = (0..1, 0);
    while !level.is_empty() && depth < scope.actions_max {
        let next = AtomicUsize::new(level.start);
        let found: Vec<Vec<Place>> = thread::scope(|threads_scope| {
            let worker = || search.expand(&places, level.end, &next);
            let handles: Vec<_> = (0..threads).map(|_| threads_scope.spawn(worker)).collect();
            let found = handles.into_iter().map(thread::ScopedJoinHandle::join);
            found.map(|found| found.expect("what panics is caught")).collect()
        });
        if let Some((from, action, reason)) = search.wrong.lock().expect("no panic").take() {
            return Err(search.violation(&places, from, action, reason));
        }
        if search.full.load(Ordering::Relaxed) {
            break;
        }
        let start = places.len();
        places.extend(found.into_iter().flatten());
        level = start..places.len();
        depth += 1;
    }
    Ok(Explored {
        states: search.states.load(Ordering::Relaxed),
        steps: search.steps.load(Ordering::Relaxed),
        depth,
        whole: level.is_empty(),
    })
}

impl Search<'_> {
    /// Takes note of a state's word. Whether it was not known.
    fn is_new(&self, word: u64) -> bool {
        let shard = &self.seen[(word >> 56) as usize % SHARDS];
        let new = shard.lock().expect("nobody panics with the lock").insert(word);
        if new && self.states.fetch_add(1, Ordering::Relaxed) + 1 >= self.scope.states_max {
            self.full.store(true, Ordering::Relaxed);
        }
        new
    }

    /// Expands places of a level until it ends. Gives what was found.
    fn expand(&self, places: &[Place], end: usize, next: &AtomicUsize) -> Vec<Place> {
        let mut way = Way { clusters: vec![(0, self.root.clone())] };
        let (mut found, mut steps) = (Vec::new(), 0);
        loop {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            if start >= end || self.full.load(Ordering::Relaxed) || self.is_wrong() {
                self.steps.fetch_add(steps, Ordering::Relaxed);
                return found;
            }
            for at in start..end.min(start + CHUNK) {
                let from = u32::try_from(at).expect("fewer than 2^32 states are remembered");
                let cluster = way.lead_to(from, places, self.scope);
                for action in cluster.actions() {
                    steps += 1;
                    match attempt(cluster, action, self.scope) {
                        Ok(Some(after)) if self.is_new(after.word()) => {
                            found.push(Place { from, action });
                        }
                        Ok(_) => {}
                        Err(reason) => {
                            let mut wrong = self.wrong.lock().expect("no panic");
                            wrong.get_or_insert((from, Some(action), reason));
                            return found;
                        }
                    }
                }
            }
        }
    }

    fn is_wrong(&self) -> bool {
        self.wrong.lock().expect("nobody panics with the lock").is_some()
    }

    fn violation(
        &self,
        places: &[Place],
        from: u32,
        action: Option<Action>,
        reason: String,
    ) -> Violation {
        let mut actions: Vec<Action> = action.into_iter().collect();
        let mut at = from;
        while at != 0 {
            actions.push(places[at as usize].action);
            at = places[at as usize].from;
        }
        let mut story = vec![format!("   at the beginning\n{}", self.root)];
        let mut cluster = self.root.clone();
        for action in actions.into_iter().rev() {
            let Ok(Some(after)) = attempt(&cluster, action, self.scope) else {
                story.push(format!("   {action:?}"));
                break;
            };
            cluster = after;
            story.push(format!("   {action:?}\n{cluster}"));
        }
        Violation { scope: self.scope.name, reason, story }
    }
}

/// A step; a panic of the core is what is wrong.
fn attempt(cluster: &Cluster, action: Action, scope: &Scope) -> Result<Option<Cluster>, String> {
    let step = AssertUnwindSafe(|| cluster.after(action, scope));
    catch_unwind(step).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(text.unwrap_or("a panic without words").to_string())
    })
}

/// The states on the way to one, the first first.
struct Way {
    clusters: Vec<(u32, Cluster)>,
}

impl Way {
    /// Leads to a place, from the last state on this way that its own way shares.
    fn lead_to(&mut self, to: u32, places: &[Place], scope: &Scope) -> &Cluster {
        let mut missing = Vec::new();
        let mut at = to;
        // Places are numbered level by level, so whoever stands on the way and is not met is later.
        loop {
            while self.clusters.last().is_some_and(|(known, _)| *known > at) {
                self.clusters.pop();
            }
            if self.clusters.last().is_some_and(|(known, _)| *known == at) {
                break;
            }
            missing.push(at);
            at = places[at as usize].from;
        }
        for at in missing.into_iter().rev() {
            let (_, before) = self.clusters.last().expect("the first state stays");
            let after = before.after(places[at as usize].action, scope);
            let after = after.ok().flatten().expect("it was found this way");
            self.clusters.push((at, after));
        }
        &self.clusters.last().expect("the first state stays").1
    }
}
