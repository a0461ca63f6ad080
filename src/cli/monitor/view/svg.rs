//! A drawn buffer as an SVG, for documents and for reports of what was seen. Text stays text: it can be searched and copied.

use std::fmt::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

/// Of a cell, in pixels.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 17.0;
const MARGIN: f64 = 12.0;
const BACKGROUND: &str = "#14161b";
const FOREGROUND: &str = "#d5d8de";

/// The whole buffer.
pub fn of(buffer: &Buffer) -> String {
    let area = buffer.area;
    let width = f64::from(area.width) * WIDTH + 2.0 * MARGIN;
    let height = f64::from(area.height) * HEIGHT + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" \
         font-size=\"14\" xml:space=\"preserve\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    for y in area.top()..area.bottom() {
        let cells: Vec<&Cell> = (area.left()..area.right())
            .filter_map(|x| buffer.cell((x, y)))
            .collect();
        line(&mut svg, &cells, f64::from(y));
    }
    svg + "</svg>\n"
}

/// One text element a run of cells that look alike.
fn line(svg: &mut String, cells: &[&Cell], y: f64) {
    let mut from = 0;
    while let Some(first) = cells.get(from) {
        let alike = |cell: &&&Cell| (cell.fg, cell.modifier) == (first.fg, first.modifier);
        let count = cells[from..].iter().take_while(alike).count();
        let text: String = cells[from..from + count]
            .iter()
            .map(|c| c.symbol())
            .collect();
        run(svg, first, &text, (from as f64, y), count as f64);
        from += count;
    }
}

fn run(svg: &mut String, look: &Cell, text: &str, (x, y): (f64, f64), count: f64) {
    let (left, top) = (MARGIN + x * WIDTH, MARGIN + y * HEIGHT);
    let width = count * WIDTH;
    let reversed = look.modifier.contains(Modifier::REVERSED);
    let colour = hex(look.fg);
    if reversed {
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{colour}\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let fill = if reversed { BACKGROUND } else { colour };
    let bold = match look.modifier.contains(Modifier::BOLD) {
        true => " font-weight=\"bold\"",
        false => "",
    };
    let base = top + 13.0;
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{left:.1}\" y=\"{base:.1}\" textLength=\"{width:.1}\" fill=\"{fill}\"{bold}>{escaped}</text>"
    );
}

fn hex(colour: Color) -> &'static str {
    match colour {
        Color::Red => "#ff6b68",
        Color::Green => "#7bc275",
        Color::Yellow => "#e5c15c",
        Color::Cyan => "#5fb7c9",
        Color::DarkGray => "#868d99",
        _ => FOREGROUND,
    }
}
