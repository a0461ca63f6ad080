//! The GPUs: five lines each where there is room, else three or one.

use collage::host::telemetry::{Link, Pattern, State};
use ratatui::text::{Line, Span};

use super::super::super::text::{bytes, whole_percent};
use super::super::snapshot::{GpuNow, Snapshot};
use super::theme::Theme;

/// Of a bar, in cells.
const BAR: usize = 12;
const STEPS: [char; 8] = [
    '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}',
];

/// At most so many lines for all of them, and one at least.
pub fn lines<'a>(snapshot: &Snapshot, theme: Theme, width: u16, most: u16) -> Vec<Line<'a>> {
    if let Err(reason) = &snapshot.driver {
        return vec![Line::styled(
            format!(" no GPU to watch: {reason}"),
            theme.faint(),
        )];
    }
    if snapshot.gpus.is_empty() {
        return vec![Line::styled(
            " NVML is there and names no GPU",
            theme.faint(),
        )];
    }
    let (count, most) = (snapshot.gpus.len(), usize::from(most));
    let each = match most / count {
        5.. => 5,
        3 | 4 => 3,
        _ => 1,
    };
    let mut lines: Vec<Line> = snapshot
        .gpus
        .iter()
        .flat_map(|now| block(now, theme, usize::from(width), each))
        .collect();
    if lines.len() > most {
        let hidden = lines.len() - most.saturating_sub(1);
        lines.truncate(most.saturating_sub(1));
        lines.push(Line::styled(
            format!(" and {hidden} more: make the terminal higher"),
            theme.faint(),
        ));
    }
    lines
}

fn block<'a>(now: &GpuNow, theme: Theme, width: usize, each: usize) -> Vec<Line<'a>> {
    match each {
        5 => vec![
            title(now, theme, width),
            clocks(now, theme, width),
            body(now, theme),
            events(now, theme),
            why(now, theme),
        ],
        3 => {
            let last = match now.verdict.evidence.is_empty() {
                true => body(now, theme),
                false => why(now, theme),
            };
            vec![title(now, theme, width), clocks(now, theme, width), last]
        }
        _ => vec![short(now, theme)],
    }
}

fn title<'a>(now: &GpuNow, theme: Theme, width: usize) -> Line<'a> {
    let gpu = &now.gpu;
    let name = match gpu.name.as_str() {
        "" => "a GPU that does not tell its name",
        name => name,
    };
    let bus = gpu.pci_bus_id.as_deref().unwrap_or_default();
    let mig = if gpu.mig == Some(true) { "  MIG" } else { "" };
    let left = format!(" GPU {}  {name}", gpu.index);
    let middle = format!("  {bus}{mig}");
    let right = verdict_words(now);
    let used = left.chars().count() + middle.chars().count() + right.chars().count() + 1;
    let gap = " ".repeat(width.saturating_sub(used).max(1));
    Line::from(vec![
        Span::styled(left, theme.strong()),
        Span::styled(middle, theme.faint()),
        Span::raw(gap),
        Span::styled(right, theme.cause(now.verdict.cause)),
    ])
}

fn verdict_words(now: &GpuNow) -> String {
    let state = match now.reading.state {
        State::Answers => "",
        State::Lost => "LOST, ",
        State::NeedsReset => "NEEDS A RESET, ",
    };
    format!(
        "{state}verdict: {} ({})",
        now.verdict.cause, now.verdict.confidence
    )
}

fn clocks<'a>(now: &GpuNow, theme: Theme, width: usize) -> Line<'a> {
    let (gpu, r) = (&now.gpu, &now.reading);
    let share = |now: Option<u32>, max: Option<u32>| {
        let (now, max) = (now?, max.filter(|max| *max > 0)?);
        Some(f64::from(now) / f64::from(max))
    };
    let sm = share(r.sm_clock_mhz, gpu.sm_clock_max_mhz);
    let mut spans = vec![Span::raw(format!(
        "   SM {}/{} MHz {:>4} ",
        number(r.sm_clock_mhz),
        number(gpu.sm_clock_max_mhz),
        sm.map_or("?".into(), whole_percent),
    ))];
    spans.push(Span::styled(bar(sm), theme.bar()));
    spans.push(Span::raw(format!(
        "  mem {}/{} MHz  busy {:>4} ",
        number(r.memory_clock_mhz),
        number(gpu.memory_clock_max_mhz),
        r.utilisation.map_or("?".into(), whole_percent),
    )));
    let used: usize = spans.iter().map(|s| s.content.chars().count()).sum();
    let room = width.saturating_sub(used + 1).min(40);
    spans.push(Span::styled(history(&now.busy, room), theme.bar()));
    Line::from(spans)
}

fn body<'a>(now: &GpuNow, theme: Theme) -> Line<'a> {
    let (gpu, r) = (&now.gpu, &now.reading);
    let heat = number(r.temperature_c);
    let from = gpu.slowdown_c.map_or(String::new(), |c| format!(" of {c}"));
    let watts = |w: Option<f64>| w.map_or("?".into(), |w| format!("{w:.0}"));
    let share = r.power_w.zip(r.power_limit_w.filter(|w| *w > 0.0));
    let share = share.map(|(drawn, limit)| drawn / limit);
    let used = r.memory_used_bytes.map_or("?".into(), bytes);
    let total = gpu.memory_total_bytes.map_or("?".into(), bytes);
    let full = now.window.link_of_max.is_none_or(|share| share >= 1.0);
    let link = format!("PCIe {} of {}", link(r.link), link(gpu.link_max));
    Line::from(vec![
        Span::raw(format!(
            "   {heat}{from} \u{b0}C  {}/{} W ",
            watts(r.power_w),
            watts(r.power_limit_w)
        )),
        Span::styled(bar(share), theme.bar()),
        Span::raw(format!("  {used}/{total}  ")),
        Span::styled(
            link,
            if full {
                Default::default()
            } else {
                theme.bad()
            },
        ),
    ])
}

fn events<'a>(now: &GpuNow, theme: Theme) -> Line<'a> {
    let mut spans = vec![Span::styled("   clocks: ", theme.faint())];
    if now.window.reasons.is_empty() {
        spans.push(Span::raw("nothing holds them back"));
    }
    for (i, held) in now.window.reasons.iter().enumerate() {
        if i > 0 {
            spans.push(Span::styled(" \u{b7} ", theme.faint()));
        }
        let how = match held.pattern {
            Pattern::Sustained => " all along",
            Pattern::Oscillating => " on and off",
            Pattern::Passing => "",
        };
        let style = match held.reason.is_fault() {
            true => theme.bad(),
            false => Default::default(),
        };
        let share = whole_percent(held.share);
        spans.push(Span::styled(format!("{} {share}{how}", held.reason), style));
    }
    spans.extend(errors(now, theme));
    Line::from(spans)
}

fn errors<'a>(now: &GpuNow, theme: Theme) -> Vec<Span<'a>> {
    let (rise, r) = (&now.window.rise, &now.reading);
    let mut spans = Vec::new();
    if let (Some(corrected), Some(uncorrected)) = (rise.ecc_corrected, rise.ecc_uncorrected) {
        let style = match uncorrected {
            0 => theme.faint(),
            _ => theme.bad(),
        };
        spans.push(Span::styled(
            format!("  ECC +{corrected} corrected +{uncorrected} not"),
            style,
        ));
    }
    let rows = r.rows.corrected.zip(r.rows.uncorrected);
    if let Some((corrected, uncorrected)) = rows {
        let rows = corrected + uncorrected;
        spans.push(Span::styled(format!("  rows {rows}"), theme.faint()));
    }
    for xid in &now.window.xids {
        spans.push(Span::styled(format!("  Xid {}", xid.0), theme.bad()));
    }
    spans
}

/// The first sentence that says why, or why not.
fn why<'a>(now: &GpuNow, theme: Theme) -> Line<'a> {
    let told = now.verdict.evidence.first();
    let noted = now.verdict.notes.first();
    match (told, noted) {
        (Some(evidence), _) => Line::from(format!("   why: {evidence}")),
        (None, Some(note)) => Line::styled(format!("   note: {note}"), theme.faint()),
        (None, None) => Line::default(),
    }
}

fn short<'a>(now: &GpuNow, theme: Theme) -> Line<'a> {
    let (gpu, r) = (&now.gpu, &now.reading);
    let watts = r.power_w.map_or("?".into(), |w| format!("{w:.0}"));
    Line::from(vec![
        Span::styled(format!(" GPU {:<2}", gpu.index), theme.strong()),
        Span::raw(format!(
            " SM {:>4}/{} MHz  busy {:>4}  {:>3} \u{b0}C  {watts:>4} W  ",
            number(r.sm_clock_mhz),
            number(gpu.sm_clock_max_mhz),
            r.utilisation.map_or("?".into(), whole_percent),
            number(r.temperature_c),
        )),
        Span::styled(verdict_words(now), theme.cause(now.verdict.cause)),
    ])
}

/// What is not known is a question mark, never a zero.
fn number(n: Option<u32>) -> String {
    n.map_or("?".to_owned(), |n| n.to_string())
}

fn link(link: Link) -> String {
    format!("gen {} x{}", number(link.generation), number(link.width))
}

fn bar(share: Option<f64>) -> String {
    let full = share.map_or(0.0, |share| share.clamp(0.0, 1.0) * BAR as f64);
    let full = full.round() as usize;
    format!(
        "{}{}",
        "\u{2588}".repeat(full),
        "\u{2591}".repeat(BAR - full)
    )
}

/// The newest at the right, one step a reading; as many as there is room for.
fn history(busy: &[f64], room: usize) -> String {
    let newest = &busy[busy.len().saturating_sub(room)..];
    let step = |share: &f64| {
        let at = (share.clamp(0.0, 1.0) * (STEPS.len() - 1) as f64).round();
        STEPS[at as usize]
    };
    newest.iter().map(step).collect()
}
