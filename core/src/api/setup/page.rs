//! A page in two forms: HTML for a browser, text for everybody else.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, Response};
use sha2::{Digest, Sha256};

use crate::{
    api::{
        answer::{guarded, respond},
        request::accepts,
    },
    text::html::escaped,
};

/// Style of the HTML, which is all that a browser takes from it: by its hash.
const STYLE: &str = "body{max-width:56rem;margin:2rem auto;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif;\
    color-scheme:light dark}pre{overflow-x:auto;padding:.75rem;border:1px solid #8888;border-radius:.25rem}";

/// A page.
pub(in crate::api) struct Page {
    /// Heading of it all.
    pub(in crate::api) title: &'static str,
    pub(in crate::api) blocks: Vec<Block>,
}

/// Part of a page.
pub(in crate::api) enum Block {
    Heading(&'static str),
    Says(String),
    List(Vec<String>),
    /// Lines for a shell, to be copied as they are.
    Commands(String),
    /// Words that lead to a URL.
    Link(&'static str, String),
}

impl Page {
    /// The answer in the form that the request accepts. A browser runs nothing of it, loads nothing for it, shows it in no
    /// frame, keeps no copy, and tells no other site that it was here.
    pub(in crate::api) fn answer(&self, headers: &HeaderMap) -> Response<Vec<u8>> {
        let (kind, body) = match accepts(headers, "text/html") {
            true => ("text/html; charset=utf-8", self.html()),
            false => ("text/plain; charset=utf-8", self.text()),
        };
        let style = STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        guarded(respond(200, kind, body.into_bytes()), &policy)
    }

    fn text(&self) -> String {
        let blocks: Vec<String> = self.blocks.iter().map(Block::text).collect();
        format!("{}\n\n{}", self.title, blocks.join("\n"))
    }

    fn html(&self) -> String {
        let title = escaped(self.title);
        let blocks: String = self.blocks.iter().map(Block::html).collect();
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <h1>{title}</h1>\n{blocks}</main>\n</body>\n</html>\n"
        )
    }
}

impl Block {
    fn text(&self) -> String {
        match self {
            Self::Heading(it) => format!("# {it}\n"),
            Self::Says(it) => format!("{it}\n"),
            Self::List(items) => items.iter().map(|it| format!("- {it}\n")).collect(),
            Self::Commands(lines) => {
                lines.lines().map(|it| format!("    {it}").trim_end().to_owned() + "\n").collect()
            }
            Self::Link(words, url) => format!("{words}: {url}\n"),
        }
    }

    fn html(&self) -> String {
        match self {
            Self::Heading(it) => format!("<h2>{}</h2>\n", escaped(it)),
            Self::Says(it) => format!("<p>{}</p>\n", escaped(it)),
            Self::List(items) => {
                let items: String = items.iter().map(|it| format!("<li>{}</li>\n", escaped(it))).collect();
                format!("<ul>\n{items}</ul>\n")
            }
            Self::Commands(lines) => format!("<pre><code>{}</code></pre>\n", escaped(lines)),
            Self::Link(words, url) => {
                format!("<p><a href=\"{}\">{}</a></p>\n", escaped(url), escaped(words))
            }
        }
    }
}
