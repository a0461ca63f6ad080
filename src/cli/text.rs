//! Figures and tables as people read them.

/// Milliseconds with three significant digits.
pub fn ms(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0} ms"),
        v if v >= 10.0 => format!("{v:.1} ms"),
        v => format!("{v:.2} ms"),
    }
}

/// A duration that was set, not measured: as it was written.
pub fn setting_ms(value: f64) -> String {
    format!("{value} ms")
}

/// A fraction as people read it. Accuracies of some 10,000 answers do not bear more than two decimals.
pub fn percent(fraction: f64) -> String {
    format!("{:.2}%", fraction * 100.0)
}

/// A share of time or of a limit: it bears no decimals.
pub fn whole_percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// A difference of two fractions in percentage points, with a true minus sign.
pub fn points(difference: f64) -> String {
    let rounded = (difference * 1e4).round() / 1e2;
    let sign = match rounded {
        r if r < 0.0 => "−",
        r if r > 0.0 => "+",
        _ => "±",
    };
    format!("{sign}{:.2} points", rounded.abs())
}

/// 1234567 as 1,234,567.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in binary units.
pub fn bytes(n: u64) -> String {
    match n as f64 {
        b if b >= 1_073_741_824.0 => format!("{:.1} GiB", b / 1_073_741_824.0),
        b if b >= 1_048_576.0 => format!("{:.1} MiB", b / 1_048_576.0),
        b if b >= 1024.0 => format!("{:.1} KiB", b / 1024.0),
        _ => format!("{n} bytes"),
    }
}

/// Columns padded to their widest cell, two spaces apart; the first `left` of them to the left, the others to the
/// right; a rule under the first row.
pub fn table<const N: usize>(rows: &[[String; N]], left: usize) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(c, cell)| {
                if c < left {
                    format!("{cell:<0$}", widths[c])
                } else {
                    format!("{cell:>0$}", widths[c])
                }
            })
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
        if i == 0 {
            text += &"-".repeat(widths.iter().sum::<usize>() + 2 * (N - 1));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_carry_a_sign_and_zero_does_not_pretend_to_one() {
        assert_eq!(
            [points(-0.0031), points(0.0004), points(0.000_01)],
            ["−0.31 points", "+0.04 points", "±0.00 points"]
        );
    }

    #[test]
    fn numbers_are_grouped_and_scaled() {
        assert_eq!(
            [7, 1_797, 1_000_000].map(thousands),
            ["7", "1,797", "1,000,000"]
        );
        assert_eq!(
            [512, 2_048, 5 << 20, 3 << 30].map(bytes),
            ["512 bytes", "2.0 KiB", "5.0 MiB", "3.0 GiB"]
        );
        assert_eq!(
            [0.0712, 9.87, 12.34, 150.2].map(ms),
            ["0.07 ms", "9.87 ms", "12.3 ms", "150 ms"]
        );
    }

    #[test]
    fn columns_line_up() {
        let rows = [["", "b"], ["long", "1"], ["x", "22"]].map(|row| row.map(String::from));
        assert_eq!(table(&rows, 1), "       b\n--------\nlong   1\nx     22\n");
    }
}
