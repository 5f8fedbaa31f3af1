//! The documentation that comes with the binary, and where it is on the Web.

/// `docs/reasons.md`.
pub(crate) const REASONS: &str = include_str!("../../../docs/reasons.md");

/// The address of a heading in a file of the folder `docs`, in this version of it.
pub(crate) fn link(file: &str, anchor: &str) -> String {
    const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    format!("{REPOSITORY}/blob/v{VERSION}/docs/{file}#{anchor}")
}

/// The lines below a heading, up to the next one of the same level or above it.
///
/// `heading` is the whole line, such as `### RouteConflict`.
pub(crate) fn section<'a>(text: &'a str, heading: &str) -> Option<Vec<&'a str>> {
    let level = |line: &str| line.len() - line.trim_start_matches('#').len();
    let own = level(heading);
    let mut lines = text.lines();
    lines.find(|line| *line == heading)?;
    let mut code = false;
    let below = lines.take_while(|line| {
        code ^= line.starts_with("```");
        code || level(line) == 0 || level(line) > own
    });
    Some(below.collect())
}

/// Markdown for a terminal: paragraphs wrapped to 80 columns, blocks of code as they are, both indented.
pub(crate) fn plain(lines: &[&str], indent: usize) -> String {
    let mut text = String::new();
    let mut paragraph = String::new();
    let mut code = false;
    for line in lines {
        let fence = line.starts_with("```");
        if code && !fence {
            push(&mut text, line, indent + 2);
            continue;
        }
        if fence || line.is_empty() {
            wrap(&mut text, &std::mem::take(&mut paragraph), indent);
            code ^= fence;
            if line.is_empty() && !text.is_empty() && !text.ends_with("\n\n") {
                text.push('\n');
            }
            continue;
        }
        if line.starts_with("- ") {
            wrap(&mut text, &std::mem::take(&mut paragraph), indent);
        }
        if !paragraph.is_empty() {
            paragraph.push(' ');
        }
        paragraph.push_str(line.trim());
    }
    wrap(&mut text, &paragraph, indent);
    text.truncate(text.trim_end().len());
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Breaks a paragraph into lines, and appends them.
pub(crate) fn wrap(text: &mut String, paragraph: &str, indent: usize) {
    const WIDTH: usize = 80;
    let mut line = String::new();
    for word in paragraph.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > WIDTH {
            push(text, &line, indent);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        push(text, &line, indent);
    }
}

fn push(text: &mut String, line: &str, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
    text.push_str(line);
    text.push('\n');
}
