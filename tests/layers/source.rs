//! Enough of Rust's grammar to see what a file names: comments and literals are blanked, the rest becomes words, and
//! every path that starts at `crate`, `self`, `super` or an external crate is written out in full.

/// A word or a punctuation character, and the line it stands on. `::` is one token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A path as if it were written in full: `use crate::{a::b, c}` names `crate::a::b` and `crate::c`.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    pub segments: Vec<String>,
    pub line: usize,
}

/// One source file, read.
pub struct Source {
    /// As `src/model/plan.rs`.
    pub file: String,
    /// As it is, for what stands in comments.
    pub lines: Vec<String>,
    /// Without comments and literals.
    pub tokens: Vec<Token>,
    /// Named in it; `self` and `super` resolved to `crate`.
    pub paths: Vec<Path>,
}

impl Source {
    pub fn read(file: &str, text: &str) -> Source {
        let tokens = tokens(&blank(text));
        let paths = paths(&tokens, &module_of(file));
        Source {
            file: file.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            tokens,
            paths,
        }
    }

    /// The top module that it belongs to: `model` for `src/model/plan.rs`, `tensor` for `src/tensor.rs`.
    pub fn room(&self) -> &str {
        let inside = self.file.strip_prefix("src/").unwrap_or(&self.file);
        inside.split(['/', '.']).next().unwrap_or(inside)
    }
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`; `src/lib.rs` and `src/main.rs` are the root.
fn module_of(file: &str) -> Vec<String> {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    let mut parts: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if matches!(
        parts.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        parts.pop();
    }
    parts
}

/// Comments, strings and character literals to spaces; newlines stay, so that lines keep their numbers.
pub fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = literal_end(&chars, i).unwrap_or(i);
        if end > i {
            out.extend(
                chars[i..end]
                    .iter()
                    .map(|&c| if c == '\n' { '\n' } else { ' ' }),
            );
            i = end;
        } else {
            out.push(chars[i]);
            i += 1;
        }
    }
    out
}

/// Where the comment or literal that starts at `i` ends; `None` where none does.
fn literal_end(chars: &[char], i: usize) -> Option<usize> {
    let at = |j: usize| chars.get(j).copied();
    let word_before = i > 0 && is_word(chars[i - 1]);
    match (chars[i], at(i + 1)) {
        ('/', Some('/')) => Some(
            (i..chars.len())
                .find(|&j| chars[j] == '\n')
                .unwrap_or(chars.len()),
        ),
        ('/', Some('*')) => Some(block_comment_end(chars, i)),
        ('"', _) => Some(string_end(chars, i + 1)),
        ('r', Some('"' | '#')) if !word_before => raw_string_end(chars, i + 1),
        ('b' | 'c', Some('r')) if !word_before => raw_string_end(chars, i + 2),
        ('\'', Some('\\')) => Some(
            (i + 3..chars.len())
                .find(|&j| chars[j] == '\'')
                .map_or(chars.len(), |j| j + 1),
        ),
        ('\'', Some(_)) if at(i + 2) == Some('\'') => Some(i + 3),
        _ => None, // a lifetime's quote is left alone
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut i) = (0, start);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn string_end(chars: &[char], mut i: usize) -> usize {
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// From the hashes or the quote of a raw string; `None` for a raw identifier.
fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start..].iter().take_while(|&&c| c == '#').count();
    if chars.get(start + hashes) != Some(&'"') {
        return None;
    }
    let closes = |j: usize| {
        chars[j] == '"'
            && chars[j + 1..]
                .iter()
                .take(hashes)
                .filter(|&&c| c == '#')
                .count()
                == hashes
    };
    Some(
        (start + hashes + 1..chars.len())
            .find(|&j| closes(j))
            .map_or(chars.len(), |j| j + 1 + hashes),
    )
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn tokens(code: &str) -> Vec<Token> {
    let mut out = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let chars: Vec<char> = line.chars().collect();
        let mut i = 0;
        while i < chars.len() {
            let length = match chars[i] {
                c if is_word(c) => chars[i..].iter().take_while(|&&c| is_word(c)).count(),
                ':' if chars.get(i + 1) == Some(&':') => 2,
                _ => 1,
            };
            if !chars[i].is_whitespace() {
                out.push(Token {
                    text: chars[i..i + length].iter().collect(),
                    line: index + 1,
                });
            }
            i += length;
        }
    }
    out
}

/// Every path, in full. Follows inline modules, because `super` counts from them.
fn paths(tokens: &[Token], file_module: &[String]) -> Vec<Path> {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let mut module = file_module.to_vec();
    let mut depth = 0;
    let mut inline: Vec<usize> = Vec::new(); // the brace depth at which each inline module opened
    let mut out = Vec::new();
    for i in 0..tokens.len() {
        match text(i) {
            "{" => depth += 1,
            "}" => {
                if inline.last() == Some(&depth) {
                    inline.pop();
                    module.pop();
                }
                depth -= 1;
            }
            "mod" if text(i + 2) == "{" => {
                module.push(text(i + 1).to_owned());
                inline.push(depth + 1);
            }
            "use" if text(i + 1) == "{" => tree(tokens, i + 1, &[], &module, &mut out),
            word if is_word(word.chars().next().unwrap_or(' ')) => {
                let starts = i == 0 || (text(i - 1) != "::" && !nested(tokens, i));
                if starts && (text(i + 1) == "::" || text(i.wrapping_sub(1)) == "use") {
                    tree(tokens, i, &[], &module, &mut out);
                }
            }
            _ => {}
        }
    }
    out
}

/// Whether token `i` is inside the braces of a `use` tree, and so was seen with it.
fn nested(tokens: &[Token], i: usize) -> bool {
    let mut depth = 0;
    for j in (0..i).rev() {
        match tokens[j].text.as_str() {
            "}" => depth += 1,
            "{" if depth > 0 => depth -= 1,
            "{" => {
                return match j.checked_sub(1).map(|k| tokens[k].text.as_str()) {
                    Some("::" | "use") => true,
                    Some("," | "{") => nested(tokens, j),
                    _ => false,
                };
            }
            ";" => return false,
            _ => {}
        }
    }
    false
}

/// Reads a use tree or a plain path from token `i` on; gives back nothing, but adds every leaf to `out`.
fn tree(tokens: &[Token], mut i: usize, prefix: &[String], module: &[String], out: &mut Vec<Path>) {
    let mut segments = prefix.to_vec();
    let line = tokens[i].line;
    loop {
        match tokens.get(i).map_or("", |t| t.text.as_str()) {
            "{" => {
                for branch in branches(tokens, i) {
                    tree(tokens, branch, &segments, module, out);
                }
                return;
            }
            word if word.starts_with(is_word) => {
                segments.push(word.to_owned());
                if tokens.get(i + 1).is_none_or(|t| t.text != "::") {
                    break;
                }
                i += 2;
            }
            _ => break, // `*`, or the `<` of a turbofish
        }
    }
    out.push(Path {
        segments: resolve(&segments, module),
        line,
    });
}

/// The first token of each branch of the brace group that opens at `open`.
fn branches(tokens: &[Token], open: usize) -> Vec<usize> {
    let (mut depth, mut out, mut fresh) = (0, Vec::new(), false);
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" if depth == 0 => (depth, fresh) = (1, true),
            "}" if depth == 1 => break,
            "," if depth == 1 => fresh = true,
            text => {
                if fresh {
                    out.push(i);
                    fresh = false;
                }
                match text {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
            }
        }
    }
    out
}

/// `self` and `super` at the start, as seen from `module`.
fn resolve(segments: &[String], module: &[String]) -> Vec<String> {
    let mut base = module.to_vec();
    let mut rest = segments;
    let mut relative = false;
    while let Some((first, tail)) = rest.split_first() {
        match first.as_str() {
            "self" => {}
            "super" => {
                base.pop();
            }
            _ => break,
        }
        (rest, relative) = (tail, true);
    }
    if !relative {
        return segments.to_vec();
    }
    [vec!["crate".to_owned()], base, rest.to_vec()].concat()
}
