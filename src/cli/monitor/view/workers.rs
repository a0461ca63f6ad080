//! The workers of all attached engines, one a line.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Row as Cells, Table, TableState};

use super::super::super::text::whole_percent;
use super::app::{App, Row};
use super::theme::Theme;

/// From this width on there is room for role and device.
const WIDE: u16 = 112;

/// A line each, the headings and the title.
pub fn height(rows: usize) -> u16 {
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(2)
}

/// Draws the table; the selected line is always in view.
pub fn draw(frame: &mut Frame, area: Rect, app: &App, rows: &[Row]) {
    let wide = area.width >= WIDE;
    let title = Block::new().title(" workers ").borders(Borders::TOP);
    let lines = rows.iter().map(|row| line(row, app.theme, wide));
    let table = Table::new(lines, widths(wide))
        .header(Cells::new(headings(wide)).style(app.theme.faint()))
        .row_highlight_style(app.theme.selected())
        .column_spacing(1)
        .block(title.border_style(app.theme.faint()));
    let mut state = TableState::new().with_selected(Some(app.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

fn headings(wide: bool) -> Vec<&'static str> {
    let mut names = vec![" ENGINE", "W"];
    if wide {
        names.extend(["ROLE", "DEVICE"]);
    }
    names.extend([
        "P50", "P99", "REL", "IND", "Q", "MISS", "BACK", "HEALTH", "VERDICT",
    ]);
    names
}

fn widths(wide: bool) -> Vec<Constraint> {
    let mut widths = vec![Constraint::Length(10), Constraint::Length(3)];
    if wide {
        widths.extend([Constraint::Length(7), Constraint::Fill(1)]);
    }
    let rest = [7, 7, 4, 4, 3, 5, 4, 11, 10];
    widths.extend(rest.map(Constraint::Length));
    widths
}

fn line<'a>(row: &Row<'a>, theme: Theme, wide: bool) -> Cells<'a> {
    let (engine, worker, verdict) = match row {
        Row::Worker(engine, worker, verdict) => (engine, worker, verdict),
        Row::Silent(engine, _) => {
            let name = format!(" {}.{}", engine.pid, engine.engine);
            return Cells::new(vec![
                Cell::from(name),
                Cell::from(Span::styled("?", theme.doubtful())),
            ]);
        }
    };
    let mut cells = vec![
        Cell::from(format!(" {}.{}", engine.pid, engine.engine)),
        Cell::from(worker.index.to_string()),
    ];
    if wide {
        cells.push(Cell::from(worker.role.clone()));
        cells.push(Cell::from(worker.device_name.clone()));
    }
    let recent = |us: u64| match worker.service.recent_runs {
        0 => "-".to_owned(),
        _ => time(us),
    };
    cells.push(Cell::from(recent(worker.service.recent_p50_us)));
    cells.push(Cell::from(recent(worker.service.recent_p99_us)));
    let scores = [
        worker.scores.map(|s| s.relative),
        worker.scores.map(|s| s.individual),
    ];
    cells.extend(scores.map(|score| match score {
        Some(score) => Cell::from(Span::styled(format!("{score:.2}"), theme.score(score))),
        None => Cell::from("-"),
    }));
    cells.push(Cell::from(worker.queued.to_string()));
    cells.push(Cell::from(worker.deadline_exceeded.to_string()));
    let backups = worker.backup_share().map_or("-".into(), whole_percent);
    cells.push(Cell::from(backups));
    let trust = match worker.state.as_str() {
        "ready" => &worker.health,
        state => state, // lost or retired says more
    };
    cells.push(Cell::from(Line::styled(
        trust.to_owned(),
        theme.health(trust),
    )));
    cells.push(Cell::from(Span::styled(
        verdict.cause.to_string(),
        theme.cause(verdict.cause),
    )));
    Cells::new(cells)
}

/// In seven cells.
fn time(us: u64) -> String {
    let time = Duration::from_micros(us).as_secs_f64();
    match time {
        s if s >= 100.0 => format!("{s:.0} s"),
        s if s >= 1.0 => format!("{s:.1} s"),
        s if s >= 0.1 => format!("{:.0} ms", s * 1e3),
        s if s >= 0.001 => format!("{:.1} ms", s * 1e3),
        s => format!("{:.0} us", s * 1e6),
    }
}
