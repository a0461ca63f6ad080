//! Colours, as a second channel only: whatever a colour says stands there as a word or a number too.

use collage::host::telemetry::Cause;
use ratatui::style::{Color, Modifier, Style};

/// With colours or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    colours: bool,
}

impl Theme {
    /// Without, where the variable `NO_COLOR` is set and not empty (<https://no-color.org>) or the terminal is dumb.
    pub fn of_environment() -> Theme {
        let no = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Theme {
            colours: !no && !dumb,
        }
    }

    /// With.
    pub fn colours() -> Theme {
        Theme { colours: true }
    }

    /// Without.
    #[cfg(test)]
    pub fn plain() -> Theme {
        Theme { colours: false }
    }

    fn with(self, colour: Color) -> Style {
        match self.colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// Names and headings.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What stands beside the figures.
    pub fn faint(self) -> Style {
        match self.colours {
            true => Style::new().fg(Color::DarkGray),
            false => Style::new().add_modifier(Modifier::DIM),
        }
    }

    /// A bar or a line of history.
    pub fn bar(self) -> Style {
        self.with(Color::Cyan)
    }

    /// As it should be.
    pub fn good(self) -> Style {
        self.with(Color::Green)
    }

    /// Not as it should be, and maybe no fault.
    pub fn doubtful(self) -> Style {
        self.with(Color::Yellow)
    }

    /// A fault.
    pub fn bad(self) -> Style {
        self.with(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// The line that the keys move.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Of a verdict.
    pub fn cause(self, cause: Cause) -> Style {
        match cause {
            Cause::None => self.good(),
            Cause::Load | Cause::Unknown | Cause::Host | Cause::Contention => self.doubtful(),
            Cause::Hardware | Cause::Thermal | Cause::Power | Cause::Link => self.bad(),
        }
    }

    /// Of a health state.
    pub fn health(self, health: &str) -> Style {
        match health {
            "healthy" => self.good(),
            "quarantined" => self.bad(),
            _ => self.doubtful(),
        }
    }

    /// Of a score: below 0.75 a worker counts as slow.
    pub fn score(self, score: f64) -> Style {
        match score {
            s if s < 0.5 => self.bad(),
            s if s < 0.75 => self.doubtful(),
            _ => Style::new(),
        }
    }
}
