//! CPU time of processes, from /proc: user and system time of each and of all its children, dead ones included, but for
//! children that are watched themselves.
use std::{collections::BTreeMap, fs, process, str::FromStr};

use anyhow::Context as _;

/// Of a clock tick in /proc; 100 a second on every Linux that Headwater is built for.
const TICK_MICROS: u64 = 10_000;

/// A process to watch, as `NAME=PID`.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) name: String,
    pid: u32,
}

impl Process {
    pub(crate) fn new(name: &str, pid: u32) -> Self {
        Self { name: name.to_owned(), pid }
    }

    pub(crate) fn this() -> Self {
        Self::new("load", process::id())
    }
}

impl FromStr for Process {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once('=').and_then(|(name, pid)| Some((name, pid.parse().ok()?)));
        let (name, pid) = named.ok_or("must be a name and a process id, like kafka=4711")?;
        Ok(Self { name: name.to_owned(), pid })
    }
}

/// Microseconds so far, by process and part of it: a process's threads or children go by their names.
pub(crate) type Spent = Vec<(String, BTreeMap<String, u64>)>;

pub(crate) fn of(processes: &[Process]) -> anyhow::Result<Spent> {
    let children = children()?;
    let watched = |pid| processes.iter().any(|process| process.pid == pid);
    processes
        .iter()
        .map(|process| {
            let mut parts = BTreeMap::new();
            let mut tree = vec![process.pid];
            while let Some(pid) = tree.pop() {
                let Some(stat) = stat(&format!("/proc/{pid}/stat")) else {
                    // a child may end while it is looked at: then its parent has its time
                    anyhow::ensure!(pid != process.pid, "{}: no process {pid}", process.name);
                    continue;
                };
                tree.extend(children.get(&pid).into_iter().flatten().filter(|child| !watched(**child)));
                let threads = threads(pid);
                let running = stat.own.saturating_sub(threads.iter().map(|(_, own)| own).sum());
                let ended = (pid, stat.of_ended_children);
                for (name, spent) in
                    threads.into_iter().chain([("ended threads".into(), running), ("ended children".into(), ended.1)])
                {
                    *parts.entry(name).or_default() += spent;
                }
            }
            Ok((process.name.clone(), parts))
        })
        .collect()
}

/// What was spent in between; parts without any are left out.
pub(crate) fn between(before: &Spent, after: &Spent) -> Spent {
    let difference = |((name, before), (_, after)): (&(String, BTreeMap<String, u64>), &(String, _))| {
        let after: &BTreeMap<String, u64> = after;
        let spent = |(part, time): (&String, &u64)| {
            let spent = time.saturating_sub(before.get(part).copied().unwrap_or_default());
            (spent > 0).then(|| (part.clone(), spent))
        };
        (name.clone(), after.iter().filter_map(spent).collect())
    };
    before.iter().zip(after).map(difference).collect()
}

struct Stat {
    name: String,
    parent: u32,
    own: u64,
    of_ended_children: u64,
}

/// The fields of proc(5), counted behind the name, which may hold anything.
fn stat(path: &str) -> Option<Stat> {
    let text = fs::read_to_string(path).ok()?;
    let (head, tail) = text.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok().map(|ticks| ticks * TICK_MICROS);
    Some(Stat {
        name: head.split_once('(')?.1.to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(11)? + ticks(12)?,
        of_ended_children: ticks(13)? + ticks(14)?,
    })
}

fn children() -> anyhow::Result<BTreeMap<u32, Vec<u32>>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("no /proc to read CPU times from")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(stat) = stat(&format!("/proc/{pid}/stat")) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    Ok(children)
}

/// By name without its number: tokio-rt-worker, rdk:broker, ...
fn threads(pid: u32) -> Vec<(String, u64)> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let title = title(pid);
    let stat = |task: fs::DirEntry| stat(&format!("{}/stat", task.path().display()));
    let named = |stat: Stat| {
        let name = title.clone().unwrap_or(stat.name);
        (name.trim_end_matches(|c: char| c.is_ascii_digit() || "#-: ".contains(c)).to_owned(), stat.own)
    };
    tasks.filter_map(|task| stat(task.ok()?)).map(named).collect()
}

/// What a process of PostgreSQL calls itself: "checkpointer", a session by its user.
fn title(pid: u32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&str> = line.trim_end_matches('\0').strip_prefix("postgres: ")?.split(' ').take(2).collect();
    Some(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_with_its_id_and_nothing_else() {
        assert_eq!("kafka=12".parse::<Process>().map(|process| process.pid), Ok(12));
        for text in ["kafka", "kafka=", "kafka=x", "=12x"] {
            assert!(text.parse::<Process>().is_err(), "{text}");
        }
    }

    #[test]
    fn work_done_here_shows_as_time_spent_by_this_process() {
        let this = [Process::this()];
        let before = of(&this).unwrap();
        let spent = || -> u64 { between(&before, &of(&this).unwrap())[0].1.values().sum() };
        let mut number = 1_u64;
        while spent() < 2 * TICK_MICROS {
            number = std::hint::black_box((0..100_000).fold(number, |number, round| number.rotate_left(3) ^ round));
        }
        assert!(between(&before, &before)[0].1.is_empty());
    }
}
