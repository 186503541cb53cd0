//! The page of the browser console, built from `web/` and carried in the program, with the headers that it is served
//! with. No I/O: whoever serves it does that.
//!
//! Files are kept compressed, as nearly every browser takes them.

use std::io::Read;

use flate2::read::GzDecoder;

/// Address of the page; every view of it is below.
pub const BASE: &str = "/console";

/// Name of a file in the page and its bytes, compressed with gzip.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Headers of every file of the page.
///
/// Scripts come from the page alone; they may compile WebAssembly, which decodes the pictures of programs in the terminal,
/// but make no script from text. Style elements may be made by scripts, because the terminal makes its own; style
/// cannot fetch anything. Nobody may put the page into a frame, and no window that it opens gets hold of it.
pub const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; \
         img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), microphone=(), geolocation=(), payment=(), usb=(), clipboard-read=(self), clipboard-write=(self)",
    ),
];

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// Value of `Cache-Control`: the names of assets change with their content, so they may be kept for ever.
    pub cache_control: &'static str,
    /// The bytes, compressed with gzip.
    pub gzip: &'static [u8],
}

impl File {
    /// The bytes for a client that does not take gzip.
    ///
    /// # Panics
    /// Never: what the build has packed can be unpacked.
    #[must_use]
    pub fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(self.gzip).read_to_end(&mut plain).expect("the build has packed it");
        plain
    }
}

/// Whether this program was built with the page.
#[must_use]
pub fn is_present() -> bool {
    !FILES.is_empty()
}

/// The file that an address means: an asset by its name, and the page itself for every view. `None` for what is not
/// below [`BASE`], for assets that there are not, and when the page was not built.
#[must_use]
pub fn find(path: &str) -> Option<File> {
    let rest = path.strip_prefix(BASE)?;
    if !(rest.is_empty() || rest.starts_with('/')) {
        return None;
    }
    let name = rest.trim_start_matches('/');
    let exact = FILES.iter().find(|(file, _)| *file == name);
    let (name, gzip) = match exact {
        Some(file) => *file,
        // A page of an older build asks for assets of its own time: they are gone, which is no view.
        None if name.starts_with("assets/") => return None,
        None => *FILES.iter().find(|(file, _)| *file == "index.html")?,
    };
    let cache_control =
        if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    Some(File { content_type: content_type(name), cache_control, gzip })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" | "webmanifest" => "application/json",
        "wasm" => "application/wasm",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_base_is_of_the_page() {
        for path in ["/", "/consoles", "/runtimes/x", "/clamshell/v1/health", "/console/assets/none.js"] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn every_view_is_the_page() {
        if !is_present() {
            eprintln!("skipped: the page was not built");
            return;
        }
        let page = find("/console").expect("the page is there");
        assert_eq!(page.content_type, "text/html; charset=utf-8");
        assert_eq!(page.cache_control, "no-cache");
        for path in ["/console/", "/console/sessions", "/console/terminal/a%2Fb", "/console/../etc/passwd"] {
            assert_eq!(find(path), Some(page), "{path}");
        }
        let html = String::from_utf8(page.plain()).expect("the page is text");
        let asset = html.split('"').find(|text| text.starts_with("/console/assets/")).expect("it has assets");
        let asset = find(asset).expect("the asset is there");
        assert_eq!(asset.cache_control, "public, max-age=31536000, immutable");
    }

    #[test]
    fn the_page_needs_nothing_inline() {
        if !is_present() {
            eprintln!("skipped: the page was not built");
            return;
        }
        let html = String::from_utf8(find("/console").expect("the page is there").plain()).expect("text");
        for script in html.split("<script").skip(1) {
            assert!(script.contains(" src=\"/console/assets/"), "an inline script: {script}");
        }
        assert!(!html.contains("http://") && !html.contains("https://"), "everything comes from this server");
    }
}
