//! Traces of groups, out of the stories of runs.
#![expect(clippy::many_single_char_names, reason = "fields have their names in the specification")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One event: which, of whom, and its fields by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: &'static str,
    /// The replica, counted from 1 within its group, and numbers.
    pub(super) fields: Vec<(&'static str, u64)>,
    /// Entries that are written or found: term, and a configuration's voters, outgoing voters and
    /// learners.
    pub(super) entries: Option<Vec<Entry>>,
}

/// A term, and a configuration if the entry carries one.
pub(super) type Entry = (u64, Option<[Vec<u64>; 3]>);

impl Event {
    /// As a record of TLA+.
    pub(super) fn record(&self) -> String {
        let mut text = format!("[k |-> \"{}\"", self.kind);
        for (name, value) in &self.fields {
            write!(text, ", {name} |-> {value}").expect("a string takes all");
        }
        if let Some(entries) = &self.entries {
            let entries: Vec<String> = entries.iter().map(entry).collect();
            write!(text, ", es |-> <<{}>>", entries.join(", ")).expect("a string takes all");
        }
        text + "]"
    }
}

fn entry((term, configuration): &Entry) -> String {
    let Some([voters, outgoing, learners]) = configuration else { return format!("e({term})") };
    let set = |ids: &Vec<u64>| {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        format!("{{{}}}", ids.join(", "))
    };
    format!("c({term}, {}, {}, {})", set(voters), set(outgoing), set(learners))
}

/// What is known of a replica while its story is read.
#[derive(Clone, Debug, Default)]
struct Replica {
    term: u64,
    vote: u64,
    commit: u64,
    leads: bool,
}

/// A group while its story is read.
#[derive(Debug, Default)]
struct Group {
    /// The ids of its founding voters, ascending.
    voters: Vec<u64>,
    /// Which node has which of them.
    replica_of: BTreeMap<u64, u64>,
    replicas: BTreeMap<u64, Replica>,
    /// Who was seen to lead each term first.
    leaders: BTreeMap<u64, u64>,
    events: Vec<Event>,
    /// Somebody who did not found it belongs to it.
    grown: bool,
}

/// The traces of all groups of three voters in a story, who stay the same, by shard, each as far as
/// it goes or up to so many events.
pub(super) fn of_story(text: &str, events_max: usize) -> Vec<(u64, Vec<Event>)> {
    let mut groups: BTreeMap<u64, Group> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('|')) {
        let mut words = line.split_whitespace().skip(1);
        let (Some(kind), Some(node), Some(shard)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let (Ok(node), Ok(shard)) = (node.parse(), shard.parse()) else { continue };
        let rest: Vec<&str> = words.collect();
        groups.entry(shard).or_default().read(kind, node, &Words(&rest));
    }
    let whole = groups.into_iter().filter(|(_, group)| group.voters.len() == 3 && !group.grown);
    let trace = |(shard, mut group): (u64, Group)| {
        group.events.truncate(events_max);
        (shard, group.events)
    };
    whole.map(trace).collect()
}

/// The rest of a line: words, most of them `name=value`.
struct Words<'a>(&'a [&'a str]);

impl<'a> Words<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        let value = |word: &&'a str| word.strip_prefix(name)?.strip_prefix('=');
        self.0.iter().find_map(value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    fn known(&self, name: &str) -> u64 {
        self.number(name).unwrap_or_default()
    }
}

impl Group {
    fn read(&mut self, kind: &str, node: u64, words: &Words<'_>) {
        if kind == "group" {
            let voters = words.text("voters").unwrap_or_default().split('.');
            self.voters = voters.filter_map(|id| id.parse().ok()).collect();
            let replica = self.place_of(words.known("replica"));
            self.grown |= replica == 0;
            self.replica_of.insert(node, replica);
            return;
        }
        let Some(&n) = self.replica_of.get(&node) else { return };
        match kind {
            "write" => self.on_write(n, words),
            "disk" => {
                let (q, t) = (words.known("seq"), words.known("term"));
                let v = self.place_of(words.known("vote"));
                let (b, l) = (words.known("base"), words.known("last"));
                let fields = [("n", n), ("q", q), ("t", t), ("v", v), ("b", b), ("l", l)];
                self.event("sync", &fields, None);
            }
            "boot" => {
                let (t, v) = (words.known("term"), self.place_of(words.known("vote")));
                let (b, l) = (words.known("base"), words.known("last"));
                let replica = Replica { term: t, vote: v, commit: b, leads: false };
                self.replicas.insert(n, replica);
                let entries = self.entries(words);
                let fields = [("n", n), ("t", t), ("v", v), ("b", b), ("l", l)];
                self.event("boot", &fields, Some(entries));
            }
            "state" => self.on_state(n, words),
            _ => {}
        }
    }

    fn on_write(&mut self, n: u64, words: &Words<'_>) {
        let (q, t) = (words.known("seq"), words.known("term"));
        let vote = self.place_of(words.known("vote"));
        let known = self.replicas.entry(n).or_default().clone();
        if (known.term, known.vote) != (t, vote) {
            self.replicas.insert(n, Replica { term: t, vote, leads: false, ..known.clone() });
            let place = [("n", n), ("q", q), ("t", t), ("v", vote)];
            match vote {
                0 => self.event("enter", &place[..3], None),
                own if own == n => self.event("campaign", &place[..3], None),
                _ => self.event("vote", &place, None),
            }
        }
        if let Some(i) = words.number("snapshot") {
            let install = i > known.commit;
            let kind = if install { "install" } else { "snapshot" };
            let it = words.known("of");
            let fields = [("n", n), ("q", q), ("t", t), ("i", i), ("it", it)];
            self.event(kind, &fields, None);
            let replica = self.replicas.entry(n).or_default();
            replica.commit = replica.commit.max(i);
        }
        let Some(i) = words.number("first") else { return };
        let entries = self.entries(words);
        // A leader begins its term with an entry; a candidate that lost has one from who won.
        let first = entries.first().is_some_and(|(term, _)| *term == t);
        let lost = self.leaders.get(&t).is_some_and(|&leader| leader != n);
        if first && vote == n && !lost {
            self.lead(n, t);
        }
        self.event("append", &[("n", n), ("q", q), ("t", t), ("i", i)], Some(entries));
    }

    fn on_state(&mut self, n: u64, words: &Words<'_>) {
        let leads = words.0.first() == Some(&"leads");
        let (t, l, i) = (words.known("term"), words.known("last"), words.known("commit"));
        let known = self.replicas.entry(n).or_default().clone();
        if leads {
            self.lead(n, t);
        } else if known.leads {
            self.replicas.entry(n).or_default().leads = false;
            self.event("rest", &[("n", n), ("t", t)], None);
        }
        if i > known.commit {
            self.replicas.entry(n).or_default().commit = i;
            self.event("commit", &[("n", n), ("t", t), ("l", l), ("i", i)], None);
        }
        let v = u64::from(leads);
        self.event("look", &[("n", n), ("t", t), ("l", l), ("i", i), ("v", v)], None);
    }

    fn lead(&mut self, n: u64, t: u64) {
        let replica = self.replicas.entry(n).or_default();
        if !std::mem::replace(&mut replica.leads, true) {
            self.leaders.entry(t).or_insert(n);
            self.event("lead", &[("n", n), ("t", t)], None);
        }
    }

    fn event(
        &mut self,
        kind: &'static str,
        fields: &[(&'static str, u64)],
        entries: Option<Vec<Entry>>,
    ) {
        self.events.push(Event { kind, fields: fields.to_vec(), entries });
    }

    /// A replica's place among the voters, from 1; 0 for none.
    fn place_of(&self, id: u64) -> u64 {
        self.voters.iter().position(|&known| known == id).map_or(0, |place| place as u64 + 1)
    }

    fn entries(&self, words: &Words<'_>) -> Vec<Entry> {
        let ids = |list: &str| list.split('.').filter_map(|id| id.parse().ok()).collect::<Vec<_>>();
        let places = |list: &str| ids(list).into_iter().map(|id| self.place_of(id)).collect();
        let list = words.text("entries").unwrap_or_default();
        let entry = |entry: &str| -> Option<Entry> {
            let Some((term, lists)) = entry.split_once(':') else {
                return Some((entry.parse().ok()?, None));
            };
            let mut lists = lists.split('/').map(places);
            let lists = [lists.next()?, lists.next()?, lists.next()?];
            Some((term.parse().ok()?, Some(lists)))
        };
        list.split(',').filter_map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_becomes_events() {
        let story = "flotilla-sim trace 1\n| seed 4\n\
            \x20 1.0 group 1 0 replica=11 voters=11.12.13\n\
            \x20 1.0 write 1 0 seq=1 term=1 vote=11\n\
            \x20 1.1 disk 1 0 seq=1 term=1 vote=11 base=0 last=0\n\
            \x20 1.2 write 1 0 seq=2 term=1 vote=11 first=1 entries=1,1:11.12/13/\n\
            \x20 1.3 state 1 0 leads term=1 last=2 commit=1 applied=1\n\
            \x20 1.3 boot 1 0 term=1 vote=11 base=0 last=1 entries=1\n";
        let traces = of_story(story, 10);
        let records: Vec<String> = traces[0].1.iter().map(Event::record).collect();
        assert_eq!(records[0], "[k |-> \"campaign\", n |-> 1, q |-> 1, t |-> 1]");
        assert!(records[1].starts_with("[k |-> \"sync\", n |-> 1, q |-> 1, t |-> 1, v |-> 1"));
        assert_eq!(records[2], "[k |-> \"lead\", n |-> 1, t |-> 1]");
        assert!(records[3].ends_with("i |-> 1, es |-> <<e(1), c(1, {1, 2}, {3}, {})>>]"));
        let kinds: Vec<&str> = traces[0].1.iter().skip(4).map(|event| event.kind).collect();
        assert_eq!(kinds, ["commit", "look", "boot"]);
    }
}
