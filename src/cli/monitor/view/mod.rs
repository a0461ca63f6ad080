//! `collage monitor` in a terminal: the snapshot drawn again and again, until q.
//!
//! Sampling has a thread of its own, so that neither a slow driver nor a silent engine holds up the keys. Whatever ends the
//! view (q, ctrl-c, a panic, an error) leaves the terminal as it was: ratatui's `init` restores it from a panic hook, and
//! its guard here from everything else.

mod app;
mod draw;
mod gpus;
mod svg;
#[cfg(test)]
mod tests;
mod theme;
mod workers;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use ratatui::crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, Terminal, backend::TestBackend};

use super::super::console::Console;
use super::super::failure::Failure;
use super::snapshot::{Sampler, Snapshot};
use app::App;
use theme::Theme;

/// How often keys are looked for.
const KEYS: Duration = Duration::from_millis(50);

/// Draws until the user leaves.
pub fn run(console: &Console, sampler: Sampler, interval: Duration) -> Result<(), Failure> {
    if console.is_json() {
        let expected = "expected --once with --json";
        return Err(Failure::usage(format!(
            "the view is for people; {expected}"
        )));
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let hint = "expected a terminal; without one use --once, --csv or --prometheus";
        return Err(Failure::usage(format!(
            "the view draws on a terminal: {hint}"
        )));
    }
    let snapshots = sample(sampler, interval);
    let terminal = ratatui::try_init().map_err(Failure::output)?;
    let restored = Restored;
    let ended = drive(terminal, &snapshots);
    drop(restored);
    ended.map_err(Failure::output)
}

/// Draws one view into a file.
pub fn picture(
    console: &Console,
    mut sampler: Sampler,
    interval: Duration,
    window: Duration,
    (file, (columns, rows)): (&Path, (u16, u16)),
) -> Result<(), Failure> {
    let end = Instant::now() + window;
    while Instant::now() < end {
        sampler.read();
        thread::sleep(interval);
    }
    let mut app = App::new(Theme::colours());
    app.update(sampler.snapshot());
    let mut terminal = match Terminal::new(TestBackend::new(columns, rows)) {
        Ok(terminal) => terminal,
        Err(never) => match never {},
    };
    match terminal.draw(|frame| draw::draw(frame, &app)) {
        Ok(_) => {}
        Err(never) => match never {},
    }
    let svg = svg::of(terminal.backend().buffer());
    fs::write(file, svg)
        .map_err(|error| Failure::other(format!("cannot write {}: {error}", file.display())))?;
    console.say(&format!("wrote {}", file.display()))
}

/// Gives the terminal back.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Snapshots as they come. The thread ends when nobody takes them any more.
fn sample(mut sampler: Sampler, interval: Duration) -> Receiver<Snapshot> {
    let (sender, snapshots) = bounded(1);
    thread::spawn(move || {
        loop {
            let begun = Instant::now();
            sampler.read();
            if sender.send(sampler.snapshot()).is_err() {
                return;
            }
            thread::sleep(interval.saturating_sub(begun.elapsed()));
        }
    });
    snapshots
}

fn drive(mut terminal: DefaultTerminal, snapshots: &Receiver<Snapshot>) -> io::Result<()> {
    let mut app = App::new(Theme::of_environment());
    terminal.draw(|frame| draw::draw(frame, &app))?;
    while !app.is_over() {
        let mut changed = false;
        if event::poll(KEYS)? {
            match event::read()? {
                Event::Key(key) => app.key(key),
                Event::Resize(..) => {}
                _ => continue,
            }
            changed = true;
        }
        while let Ok(snapshot) = snapshots.try_recv() {
            changed |= app.update(snapshot);
        }
        if changed {
            terminal.draw(|frame| draw::draw(frame, &app))?;
        }
    }
    Ok(())
}
