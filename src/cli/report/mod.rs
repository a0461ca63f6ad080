//! Pages that need nothing beside them, neither network, font nor script, and charts that are drawn by hand as SVG.
//!
//! `page.html`, `style.css` and `chart.css` are ordinary files; pages have `{{places}}`, which are filled from a command's
//! outcome. [`demo`] and [`policies`] are the pages, [`chart`] what is drawn on them, [`simulated`] a chart by itself.

pub mod chart;
pub mod demo;
pub mod policies;
pub mod simulated;

/// Of pages; charts that stand alone have their own part of it.
fn style() -> String {
    format!("{}{}", chart::STYLE, include_str!("style.css"))
}

/// Replaces every `{{name}}`; what is filled in is not searched for places again.
fn fill(page: &str, places: &[(&str, String)]) -> String {
    let mut out = String::with_capacity(page.len() * 4);
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("{{") {
        out += before;
        let Some((name, after)) = after.split_once("}}") else {
            break;
        };
        if let Some((_, text)) = places.iter().find(|(place, _)| *place == name) {
            out += text;
        }
        rest = after;
    }
    out + rest
}

/// Text as HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c => out.push(c),
        }
    }
    out
}
