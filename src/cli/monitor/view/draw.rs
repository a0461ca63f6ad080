//! The whole screen: header, GPUs, workers, the selected one's verdict, keys. Height goes to the workers first, then to the
//! GPUs' details.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::super::snapshot::Snapshot;
use super::app::{App, Row};
use super::gpus;
use super::workers;

const LEAST_COLUMNS: u16 = 60;
const LEAST_ROWS: u16 = 10;
/// Lines of the selected worker's verdict.
const VERDICT: u16 = 4;

const KEYS: &str = " q quit  \u{2191}\u{2193} select  s sort  p pause  ? help";
const HELP: &str = "\
q, esc, ctrl-c   leave
up, down, k, j   select a worker: its verdict stands below
s                sort workers by index, p99, score, misses, queue
p, space         pause and go on
?, h             this

Scores: 1 is best. REL is against the fastest workers, IND
against its own best; below 0.75 a worker counts as slow.
BACK is the share of its requests that a backup answered.
P50 and P99 are of its last 256 runs.
docs/monitor.md and docs/verdict.md have the rest.";

/// Draws it.
pub fn draw(frame: &mut Frame, app: &App) {
    let area = frame.area();
    if area.width < LEAST_COLUMNS || area.height < LEAST_ROWS {
        let told = format!("collage monitor: at least {LEAST_COLUMNS}x{LEAST_ROWS} is needed");
        frame.render_widget(Paragraph::new(told).wrap(Wrap { trim: true }), area);
        return;
    }
    let Some(snapshot) = &app.snapshot else {
        frame.render_widget(Paragraph::new(" looking for GPUs and engines ..."), area);
        return;
    };
    let rows = app.rows();
    let free = area.height - 2 - VERDICT;
    let table = workers::height(rows.len()).min(free / 2);
    let blocks = gpus::lines(snapshot, app.theme, area.width, free - table);
    let [head, gpu_area, worker_area, verdict_area, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(blocks.len() as u16),
        Constraint::Fill(1),
        Constraint::Length(VERDICT),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(header(snapshot, app, area.width), head);
    frame.render_widget(Paragraph::new(blocks), gpu_area);
    match rows.is_empty() {
        true => frame.render_widget(nobody(snapshot, app), worker_area),
        false => workers::draw(frame, worker_area, app, &rows),
    }
    if let Some(row) = rows.get(app.selected) {
        frame.render_widget(verdict(row, app), verdict_area);
    }
    let bottom = format!("{KEYS}   sorted by {}", app.sort.name());
    frame.render_widget(Paragraph::new(bottom).style(app.theme.faint()), keys);
    if app.help {
        help(frame, area, app);
    }
}

fn header<'a>(snapshot: &Snapshot, app: &App, width: u16) -> Paragraph<'a> {
    let driver = match &snapshot.driver {
        Ok(driver) => format!("driver {driver}"),
        Err(_) => "no NVML".to_owned(),
    };
    let many = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let span = snapshot.gpus.iter().map(|now| now.window.span_s());
    let span = span.fold(0.0, f64::max);
    let left = format!(
        "  {driver} \u{b7} {} \u{b7} {} \u{b7} window {span:.1} s",
        many(snapshot.gpus.len(), "GPU"),
        many(snapshot.engines.len(), "engine"),
    );
    let right = if app.paused { "PAUSED " } else { "" };
    let title = " collage monitor";
    let used = title.len() + left.chars().count() + right.len();
    let gap = " ".repeat(usize::from(width).saturating_sub(used));
    Paragraph::new(Line::from(vec![
        Span::styled(title, app.theme.strong()),
        Span::raw(left),
        Span::raw(gap),
        Span::styled(right, app.theme.doubtful()),
    ]))
}

/// Neither an error nor empty space: what to do to see something.
fn nobody<'a>(snapshot: &Snapshot, app: &App) -> Paragraph<'a> {
    let told = match &snapshot.no_engines {
        Some(reason) => format!(" engines cannot be looked for: {reason}"),
        None => " no engine to see: none runs as this user, or its setting `attach` is off.\n \
                 Try `collage demo` in another terminal."
            .to_owned(),
    };
    Paragraph::new(told)
        .style(app.theme.faint())
        .wrap(Wrap { trim: false })
        .block(
            Block::new()
                .title(" workers ")
                .borders(ratatui::widgets::Borders::TOP),
        )
}

/// Of the selected row: the cause, then what says so.
fn verdict<'a>(row: &Row<'a>, app: &App) -> Paragraph<'a> {
    let lines = match row {
        Row::Silent(engine, why) => vec![Line::from(format!(
            " process {}, engine {}: {why}",
            engine.pid, engine.engine
        ))],
        Row::Worker(engine, worker, verdict) => {
            let whose = format!(
                " worker {} of {}.{}: ",
                worker.index, engine.pid, engine.engine
            );
            let cause = format!("{} ({})", verdict.cause, verdict.confidence);
            let mut lines = vec![Line::from(vec![
                Span::raw(whose),
                Span::styled(cause, app.theme.cause(verdict.cause)),
            ])];
            lines.extend(
                verdict
                    .evidence
                    .iter()
                    .map(|e| Line::from(format!("   - {e}"))),
            );
            lines.extend(
                verdict
                    .notes
                    .iter()
                    .map(|n| Line::from(format!("   note: {n}"))),
            );
            if let Some(failure) = &worker.last_failure {
                lines.push(Line::from(format!("   last failure: {failure}")));
            }
            lines
        }
    };
    let border = Block::new().borders(ratatui::widgets::Borders::TOP);
    Paragraph::new(lines).block(border.border_style(app.theme.faint()))
}

fn help(frame: &mut Frame, area: Rect, app: &App) {
    let [columns, rows] = [62, HELP.lines().count() as u16 + 2];
    let area = area.centered(
        Constraint::Length(columns.min(area.width)),
        Constraint::Length(rows.min(area.height)),
    );
    frame.render_widget(Clear, area);
    let block = Block::bordered()
        .title(" keys ")
        .border_style(app.theme.bar());
    frame.render_widget(Paragraph::new(HELP).block(block), area);
}
