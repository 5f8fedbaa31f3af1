//! The project's documents: their blocks of code, and the parts that are made from something else.

use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Result};

/// A block of code of a Markdown document.
#[derive(Clone, Debug)]
pub struct Block {
    /// The number of its first line.
    pub line: usize,
    /// What stands behind the opening fence.
    pub language: String,
    /// The HTML comment in the line above it.
    pub mark: Option<String>,
    /// Its lines.
    pub text: String,
}

/// A file of the repository.
pub fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The text of a file of the repository.
pub fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(in_repository(path)).context(|| format!("reading {path}"))
}

/// README.md and all of docs/, as paths in the repository.
pub fn documents_for_users() -> Result<Vec<String>> {
    let folder = in_repository("docs");
    let what = || format!("listing {}", folder.display());
    let mut all = vec!["README.md".to_owned()];
    for entry in std::fs::read_dir(&folder).context(what)? {
        let name = entry.context(what)?.file_name();
        all.push(format!("docs/{}", name.to_string_lossy()));
    }
    all.retain(|path| Path::new(path).extension().is_some_and(|e| e == "md"));
    all.sort();
    Ok(all)
}

/// The blocks of code of a text.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut above = "";
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                let mark = above
                    .strip_prefix("<!-- ")
                    .and_then(|mark| mark.strip_suffix(" -->"));
                open = Some(Block {
                    line: number + 2,
                    language: language.to_owned(),
                    mark: mark.map(str::to_owned),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
        above = line;
    }
    blocks
}

/// What stands between the marks `<!-- name -->` and `<!-- /name -->` of a file of the repository is compared
/// with `wanted`, or, where `REGENERATE` is set, replaced by it.
///
/// # Errors
/// When it is another, with the first line that differs.
pub fn is_generated(path: &str, name: &str, wanted: &str) -> Result<()> {
    let text = read(path)?;
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let missing = || {
        Error::Other(format!(
            "{path} does not have the marks <!-- {name} --> and <!-- /{name} -->, each in a line of its own"
        ))
    };
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (found, after) = rest.split_once(&end).ok_or_else(missing)?;
    if found == wanted {
        return Ok(());
    }
    if std::env::var_os("REGENERATE").is_some() {
        let text = format!("{before}{begin}{wanted}{end}{after}");
        return std::fs::write(in_repository(path), text).context(|| format!("writing {path}"));
    }
    let (mut found, mut wanted) = (found.lines(), wanted.lines());
    let differs = loop {
        match (found.next(), wanted.next()) {
            (found, wanted) if found != wanted || found.is_none() => break (found, wanted),
            _ => {}
        }
    };
    Err(Error::Other(format!(
        "{path} is out of date: run `make generate`. The first line that differs, and what it has to be: {differs:#?}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_its_language_and_its_mark() {
        let text = "a\n\n```console\nls\n```\n<!-- not run: why -->\n```yaml\na: 1\nb: 2\n```\n";
        let blocks = blocks(text);
        let seen: Vec<_> = blocks
            .iter()
            .map(|b| {
                (
                    b.line,
                    b.language.as_str(),
                    b.mark.as_deref(),
                    b.text.as_str(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (4, "console", None, "ls\n"),
                (8, "yaml", Some("not run: why"), "a: 1\nb: 2\n")
            ]
        );
    }
}
