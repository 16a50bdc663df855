//! The fault matrix (RELIABILITY.md): each row harms the whole platform on real parts under load, heals it, and holds
//! everything against the journal of what was acknowledged. Every service is a process of its own.
//!
//! `HEADWATER_FAULT_ROWS` names rows to run in full, like `1,7b`, or `matrix` for all but the longest; unset, those that
//! belong to `make test` run short. `HEADWATER_FAULT_SEED` chooses other traffic. Arguments select among the rows as
//! they do among tests.
mod apart;
mod load;
mod proxy;
mod recovery;
mod rows;
mod scene;
mod selection;
mod services;
mod stack;
mod storm;
mod supervisor;
mod table;
mod verbs;
mod wait;
mod webhook;

use std::{io::Write as _, panic::AssertUnwindSafe, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures::FutureExt as _;
use rustix::process::geteuid;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use rows::{Row, Stage};
use scene::{End, Length, Scene};
use selection::Selection;
use stack::Stack;
use table::{Line, Matrix, Numbers, Verdict};

/// I5.
const RECOVERY: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match until_told() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whoever breaks it off leaves no process and no disk behind.
#[tokio::main]
async fn until_told() -> Result<bool> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        done = run() => done,
        _ = terminated.recv() => bail!("terminated"),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn run() -> Result<bool> {
    let selection = Selection::parse(|variable| std::env::var(variable).ok(), std::env::args().skip(1))?;
    let mut out = std::io::stdout();
    if selection.list {
        for row in &selection.rows {
            writeln!(out, "{}: test", row.title())?;
        }
        return Ok(true);
    }
    writeln!(out, "\nrunning {} tests", selection.rows.len())?;
    let run = format!("faults_{}", std::process::id());
    let mut lines = Vec::new();
    for row in selection.rows {
        write!(out, "test {} ... ", row.title())?;
        out.flush()?;
        let start = Instant::now();
        let line = play(row, selection.length, selection.seed, &run).await;
        let word = match &line.verdict {
            Verdict::Passed => "ok",
            Verdict::Failed(_) => "FAILED",
            Verdict::NotRun(_) => "ignored",
        };
        writeln!(out, "{word} ({:.0} s)", start.elapsed().as_secs_f64())?;
        line.notes.iter().try_for_each(|note| writeln!(out, "  {note}"))?;
        line.reasons().try_for_each(|reason| writeln!(out, "  {}", reason.replace('\n', "\n  ")))?;
        lines.push(line);
    }
    writeln!(out, "\n{}", Matrix(&lines))?;
    let count = |of: fn(&Verdict) -> bool| lines.iter().filter(|line| of(&line.verdict)).count();
    let (passed, failed) =
        (count(|verdict| matches!(verdict, Verdict::Passed)), count(|verdict| matches!(verdict, Verdict::Failed(_))));
    let ignored = lines.len() - passed - failed;
    let result = if failed == 0 { "ok" } else { "FAILED" };
    writeln!(out, "test result: {result}. {passed} passed; {failed} failed; {ignored} ignored")?;
    Ok(failed == 0)
}

/// One row from an empty platform to its end. Whatever goes wrong is its verdict, and the next row begins anew.
async fn play(row: &'static Row, length: Length, seed: u64, run: &str) -> Line {
    let mut line = Line { id: row.id, fault: row.fault, seed, ..Line::default() };
    if row.stage == Stage::SmallDisk && !geteuid().is_root() {
        line.verdict = Verdict::NotRun("needs root, to mount a disk");
        return line;
    }
    let mut reasons = Vec::new();
    match AssertUnwindSafe(harm(row, length, seed, run)).catch_unwind().await {
        Ok(Ok(end)) => judge(end, &mut line, &mut reasons),
        Ok(Err(error)) => reasons.push(format!("{error:#}")),
        Err(_panic) => reasons.push("it panicked; what it said stands above".to_owned()),
    }
    let folder = scene::folder(row, run);
    if reasons.is_empty() {
        // nobody will look into it
        let _ = std::fs::remove_dir_all(folder);
    } else {
        reasons.push(format!("what the processes said is in {}", folder.display()));
        line.verdict = Verdict::Failed(reasons);
    }
    line
}

async fn harm(row: &Row, length: Length, seed: u64, run: &str) -> Result<End> {
    let stack = Stack::of_environment()?;
    let mut scene = Scene::open(row, stack, length, seed, run).await.context("before the fault")?;
    let healed = (row.inject)(&mut scene).await.context("the fault")?;
    scene.close(healed, row.afterwards).await.context("after the fault")
}

fn judge(end: End, line: &mut Line, reasons: &mut Vec<String>) {
    line.peak = end.peak;
    line.notes = end.notes;
    line.seconds = Some(end.recovery.as_secs_f64());
    if end.recovery > RECOVERY {
        reasons.push(format!("it took longer than {RECOVERY:?} to recover"));
    }
    reasons.extend(end.complaints);
    match Numbers::of(&end.record, &end.table) {
        Ok(numbers) => {
            if numbers.acknowledged < numbers.sent {
                reasons.push(format!("{} were rejected", numbers.sent - numbers.acknowledged));
            }
            line.numbers = Some(numbers);
        }
        Err(error) => reasons.push(format!("{error:#}")),
    }
    if end.table.differences() > 0 {
        reasons.push(end.table.to_string());
    }
}
