//! A collage as its network saw it, and what it answered, as HTML.

use std::fmt::Write;
use std::io::Cursor;

use collage::image::Image;

use crate::cli::failure::Failure;
use crate::cli::report::escape;

/// One collage with everything that is shown of it.
pub struct Picture {
    /// Rows and columns.
    pub grid: (usize, usize),
    /// Why this one is shown.
    pub caption: String,
    /// The canvas as the network saw it, mean and deviation taken back.
    pub canvas: Image,
    /// One a tile, row by row; fewer than tiles when the last ones are blank.
    pub tiles: Vec<Tile>,
}

/// One request of a collage.
pub struct Tile {
    /// As submitted.
    pub image: Image,
    /// Name of its true class.
    pub truth: String,
    /// The base model's answer to the whole image.
    pub base: Guess,
    /// The collage model's answer to the tile.
    pub collage: Guess,
    /// Whether the collage's confidence was under its threshold, so that it gives no answer.
    pub abstained: bool,
}

/// A class and its probability.
#[derive(Clone)]
pub struct Guess {
    /// Name.
    pub class: String,
    /// 0..=1.
    pub confidence: f32,
}

impl Picture {
    /// Three panels: the images with the base's answers, the canvas, the answers of its tiles.
    pub fn html(&self) -> Result<String, Failure> {
        let columns = format!(
            "style=\"grid-template-columns:repeat({},1fr)\"",
            self.grid.1
        );
        let mut base = String::new();
        let mut collage = String::new();
        for tile in &self.tiles {
            let verdict = if tile.base.class == tile.truth {
                "ok"
            } else {
                "bad"
            };
            let _ = writeln!(
                base,
                "<div class=\"tile\"><img alt=\"a {}\" src=\"{}\"><p class=\"{verdict}\">{} · {}</p></div>",
                escape(&tile.truth),
                data_uri(&tile.image)?,
                escape(&tile.base.class),
                confidence(tile.base.confidence),
            );
            collage += &answer(tile);
        }
        for _ in self.tiles.len()..self.grid.0 * self.grid.1 {
            base += "<div class=\"tile is-blank\"></div>\n";
            collage += "<div class=\"tile answer is-blank\"><small>blank</small></div>\n";
        }
        let (side, count) = (
            format!("{} x {}", self.canvas.width(), self.canvas.height()),
            self.tiles.len(),
        );
        Ok(format!(
            "<figure><div class=\"real\">\
             <div><h3>{count} images, one base run each <span>below each: the base's answer</span></h3>\
             <div class=\"tiles\" {columns}>\n{base}</div></div><div class=\"to\" aria-hidden=\"true\">→</div>\
             <div><h3>shrunk into one canvas <span>one collage run; {side} pixels</span></h3>\
             <img class=\"canvas\" alt=\"the canvas of {count} tiles\" src=\"{}\"></div>\
             <div class=\"to\" aria-hidden=\"true\">→</div>\
             <div><h3>its {count} answers <span>with the network's confidence</span></h3>\
             <div class=\"tiles\" {columns}>\n{collage}</div></div></div>\
             <figcaption>{}</figcaption></figure>\n",
            data_uri(&self.canvas)?,
            escape(&self.caption),
        ))
    }
}

fn answer(tile: &Tile) -> String {
    let (class, note) = if tile.abstained {
        (
            "is-abstained",
            format!("unsure, {}", confidence(tile.collage.confidence)),
        )
    } else if tile.collage.class == tile.truth {
        ("is-right", confidence(tile.collage.confidence))
    } else {
        (
            "is-wrong",
            format!("{}, is {}", confidence(tile.collage.confidence), tile.truth),
        )
    };
    let long = if tile.collage.class.chars().count() > 3 {
        " long"
    } else {
        ""
    };
    format!(
        "<div class=\"tile answer {class}{long}\"><b>{}</b><small>{}</small>\
         <span class=\"bar\"><i style=\"width:{:.0}%\"></i></span></div>\n",
        escape(&tile.collage.class),
        escape(&note),
        tile.collage.confidence * 100.0,
    )
}

/// Probabilities near 1 do not become "100%", which would claim certainty.
fn confidence(value: f32) -> String {
    if value >= 0.995 {
        ">99%".into()
    } else {
        format!("{:.0}%", value * 100.0)
    }
}

/// The image as a PNG inside the page.
fn data_uri(image: &Image) -> Result<String, Failure> {
    let mut png = Cursor::new(Vec::new());
    let size = (image.width() as u32, image.height() as u32);
    image::write_buffer_with_format(
        &mut png,
        image.pixels(),
        size.0,
        size.1,
        image::ExtendedColorType::Rgb8,
        image::ImageFormat::Png,
    )
    .map_err(|e| Failure::other(format!("a picture of {}x{} pixels: {e}", size.0, size.1)))?;
    Ok(format!("data:image/png;base64,{}", base64(png.get_ref())))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, byte)| {
            word | u32::from(*byte) << (16 - 8 * i)
        });
        for i in 0..4 {
            let digit = char::from(DIGITS[(word >> (18 - 6 * i)) as usize & 63]);
            text.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
