//! What the view shows and how keys change it. No terminal here: tests press keys and look.

use std::cmp::Ordering;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::super::snapshot::{EngineNow, Snapshot};
use super::theme::Theme;
use collage::attach::Worker;
use collage::host::telemetry::Verdict;

/// In which order workers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// As the engine numbers them.
    #[default]
    Index,
    /// The slowest first, by their p99.
    Slowest,
    /// The lowest relative score first.
    Score,
    /// Most deadline misses first.
    Misses,
    /// Longest queue first.
    Queue,
}

impl Sort {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Index => "index",
            Sort::Slowest => "p99",
            Sort::Score => "score",
            Sort::Misses => "misses",
            Sort::Queue => "queue",
        }
    }

    fn next(self) -> Sort {
        match self {
            Sort::Index => Sort::Slowest,
            Sort::Slowest => Sort::Score,
            Sort::Score => Sort::Misses,
            Sort::Misses => Sort::Queue,
            Sort::Queue => Sort::Index,
        }
    }

    fn compare(self, a: &Worker, b: &Worker) -> Ordering {
        let score = |w: &Worker| w.scores.map_or(f64::INFINITY, |s| s.relative);
        match self {
            Sort::Index => Ordering::Equal, // the sort is stable
            Sort::Slowest => b.service.recent_p99_us.cmp(&a.service.recent_p99_us),
            Sort::Score => score(a).total_cmp(&score(b)),
            Sort::Misses => b.deadline_exceeded.cmp(&a.deadline_exceeded),
            Sort::Queue => b.queued.cmp(&a.queued),
        }
    }
}

/// One line of the workers' table.
#[derive(Clone, Copy)]
pub enum Row<'a> {
    /// A worker, and what is wrong with it.
    Worker(&'a EngineNow, &'a Worker, &'a Verdict),
    /// An engine that says nothing, and why.
    Silent(&'a EngineNow, &'a str),
}

/// The view's state.
pub struct App {
    /// What is shown; `None` before the first.
    pub snapshot: Option<Snapshot>,
    /// How it looks.
    pub theme: Theme,
    /// New snapshots are not shown.
    pub paused: bool,
    /// The keys are shown.
    pub help: bool,
    /// Of the workers.
    pub sort: Sort,
    /// Index of the row whose verdict is shown whole.
    pub selected: usize,
    over: bool,
}

impl App {
    /// With nothing to show yet.
    pub fn new(theme: Theme) -> App {
        App {
            snapshot: None,
            theme,
            paused: false,
            help: false,
            sort: Sort::default(),
            selected: 0,
            over: false,
        }
    }

    /// Whether the user has left.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Takes a new snapshot, unless paused; whether there is something new to draw.
    pub fn update(&mut self, snapshot: Snapshot) -> bool {
        if self.paused && self.snapshot.is_some() {
            return false;
        }
        self.snapshot = Some(snapshot);
        let last = self.rows().len().saturating_sub(1);
        self.selected = self.selected.min(last);
        true
    }

    /// The table's lines in their order.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let engines = self.snapshot.iter().flat_map(|s| &s.engines);
        let mut rows: Vec<Row> = engines
            .flat_map(|engine| match &engine.state {
                Ok(state) => {
                    let judged = state.workers.iter().zip(&engine.verdicts);
                    let rows = judged.map(|(w, v)| Row::Worker(engine, w, v));
                    rows.collect::<Vec<_>>()
                }
                Err(why) => vec![Row::Silent(engine, why)],
            })
            .collect();
        rows.sort_by(|a, b| match (a, b) {
            (Row::Worker(_, a, _), Row::Worker(_, b, _)) => self.sort.compare(a, b),
            _ => Ordering::Equal,
        });
        rows
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let last = self.rows().len().saturating_sub(1);
        match key.code {
            KeyCode::Char('c') if control => self.over = true,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = !self.help,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Char('q') | KeyCode::Esc => self.over = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Down | KeyCode::Char('j') => self.selected = (self.selected + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            _ => {}
        }
    }
}
