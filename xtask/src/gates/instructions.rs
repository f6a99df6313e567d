//! `cargo xtask instructions`: what a SET costs a leader and two followers, in instructions.
//!
//! Callgrind counts only while one of the three nodes takes a turn, and tells the leader from the
//! followers by the functions through which these pass. The counts are those of the program, not of
//! the machine: they differ by a few in ten thousand from run to run, and with the compiler.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use super::bounds::{Measure, number, settle};
use super::callgrind::Profile;
use super::{build, writes};
use crate::target;

/// Where the clients are, as the bench has it, and in words.
const PLACINGS: [(&str, &str); 3] = [
    ("leader", "32 connections on the leader"),
    ("spread", "32 connections over three nodes"),
    ("pipelined", "one connection, 32 at once"),
];
/// The functions of the bench within which is counted.
const LEADER: &str = "measured_on_leader";
const FOLLOWER: &str = "measured_on_follower";
/// So many functions are told of the first placing.
const FUNCTIONS: usize = 20;
/// A name is cut to so many characters.
const NAME_MAX: usize = 78;

/// One run of the bench.
struct Counted {
    profile: Profile,
    commands: f64,
}

impl Counted {
    fn per_command(&self, instructions: u64) -> f64 {
        instructions as f64 / self.commands
    }

    fn leader(&self) -> f64 {
        self.per_command(self.profile.whole(LEADER))
    }

    fn followers(&self) -> f64 {
        self.per_command(self.profile.whole(FOLLOWER))
    }
}

/// Runs the verb: `[--write]`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let write = writes(arguments)?;
    check_installed()?;
    let program = build("instructions")?;
    let directory = target().join("instructions");
    fs::create_dir_all(&directory)
        .with_context(|| format!("can't make {}", directory.display()))?;
    let started = PLACINGS.map(|(placing, _)| start(&program, placing, &directory));
    let mut counted = Vec::new();
    for ((placing, _), child) in PLACINGS.into_iter().zip(started) {
        counted.push(finish(child?, placing, &directory)?);
    }
    print_nodes(&counted);
    print_functions(&counted[0]);
    let measures: Vec<Measure> = PLACINGS
        .into_iter()
        .zip(&counted)
        .map(|((placing, _), counted)| Measure {
            name: format!("instructions/{placing}"),
            value: counted.leader() + counted.followers(),
        })
        .collect();
    settle(&measures, write)
}

/// Fails without valgrind; says by which versions is counted, since the counts depend on them.
fn check_installed() -> anyhow::Result<()> {
    let valgrind = match version("valgrind") {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("not installed: `apt-get install valgrind` on Debian and its kin brings it")
        }
        version => version.context("valgrind does not run")?,
    };
    let rustc = version("rustc").context("rustc does not run")?;
    println!("{rustc}, {valgrind}, {}\n", std::env::consts::ARCH);
    Ok(())
}

fn version(program: &str) -> std::io::Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn start(program: &Path, placing: &str, directory: &Path) -> anyhow::Result<Child> {
    let out = directory.join(placing);
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind"]);
    valgrind.args(["--compress-strings=no", "--compress-pos=no"]);
    for function in [LEADER, FOLLOWER] {
        valgrind.arg(format!("--toggle-collect=*{function}*"));
    }
    valgrind.arg(format!("--callgrind-out-file={}", out.display())).arg(program).arg(placing);
    valgrind.stdout(Stdio::piped()).spawn().context("can't run valgrind")
}

fn finish(child: Child, placing: &str, directory: &Path) -> anyhow::Result<Counted> {
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "valgrind has failed: see above why");
    let said = String::from_utf8_lossy(&output.stdout);
    let commands = said.trim().strip_prefix("commands ").and_then(|count| count.parse().ok());
    let commands: f64 = commands.with_context(|| format!("the bench says '{said}'"))?;
    let path = directory.join(placing);
    let text =
        fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let counted = Counted { profile: Profile::parse(&text)?, commands };
    ensure!(
        counted.leader() > 0.0 && counted.followers() > 0.0,
        "callgrind has not seen {LEADER} and {FOLLOWER}"
    );
    Ok(counted)
}

fn print_nodes(counted: &[Counted]) {
    println!("| instructions per SET of 64 bytes, turns of 32 | leader | a follower | all |");
    println!("|---|--:|--:|--:|");
    for ((_, words), counted) in PLACINGS.into_iter().zip(counted) {
        let (leader, followers) = (counted.leader(), counted.followers());
        println!(
            "| {words} | {} | {} | {} |",
            number(leader),
            number(followers / 2.0),
            number(leader + followers)
        );
    }
}

fn print_functions(counted: &Counted) {
    let all = counted.leader() + counted.followers();
    println!("\n| {}, by function, of all | per SET | % |", PLACINGS[0].1);
    println!("|---|--:|--:|");
    for (name, cost) in counted.profile.first(FUNCTIONS) {
        let name: String = name.chars().take(NAME_MAX).collect();
        let cost = counted.per_command(cost);
        println!("| `{name}` | {} | {:.1} |", number(cost), cost / all * 100.0);
    }
    println!();
}
