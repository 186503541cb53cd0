//! Programs whose every byte is known: one generator in awk for the sandbox, the same in Rust.

use std::fmt::Write as _;

/// What a program prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Numbered lines of text.
    Lines,
    /// Any bytes.
    Bytes,
    /// Wide, combining and joined characters.
    Wide,
    /// Cursor movements, colors, the alternate screen, scroll regions, titles.
    Screen,
}

pub(super) const KINDS: [Kind; 4] = [Kind::Lines, Kind::Bytes, Kind::Wide, Kind::Screen];

/// One run of the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) kind: Kind,
    /// 1 to 2^31 - 2.
    pub(super) seed: u64,
    pub(super) pieces: u64,
}

const GLYPHS: [&str; 10] =
    ["漢", "字", "e\u{301}", "ｗ", "👩\u{200d}💻", "\u{1f1e9}\u{1f1ea}", "ß", "a", "\u{fe0f}", "한"];

/// The read-eval loop that becomes the shell: no echo, no prompt, no translation of line ends.
pub(super) const LOOP: &str = r#"stty raw -echo
generate() { LC_ALL=C awk -v kind="$1" -v seed="$2" -v pieces="$3" -f /mnt/workspace/generate.awk; }
printf 'REA%s' DY
while IFS= read -r line; do eval "$line"; done
"#;

/// The generator for the sandbox.
pub(super) fn awk() -> String {
    let mut glyphs = String::new();
    for (index, glyph) in GLYPHS.iter().enumerate() {
        let octal: String = glyph.bytes().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\{byte:03o}");
            text
        });
        let _ = writeln!(glyphs, "  glyph[{index}] = \"{octal}\"");
    }
    format!(
        r#"function number(limit) {{ state = (state * 16807) % 2147483647; return state % limit }}
BEGIN {{
{glyphs}  state = seed
  for (i = 0; i < pieces; i++) {{
    if (kind == "Lines") {{
      printf "%06d", i
      count = number(12)
      for (j = 0; j < count; j++) printf " %x", number(65536)
      printf "\n"
    }} else if (kind == "Bytes") {{
      count = 1 + number(64)
      for (j = 0; j < count; j++) printf "%c", number(256)
    }} else if (kind == "Wide") {{
      if (i % 30 == 29) printf "\r\n"
      printf "%s", glyph[number(10)]
    }} else {{
      what = number(8); a = number(10); b = number(70)
      if (what == 0) printf "\033[%d;%dH", a + 1, b + 1
      else if (what == 1) printf "\033[3%dm%x", a % 8, b
      else if (what == 2) printf "\033[2J"
      else if (what == 3) printf "\033[?1049h"
      else if (what == 4) printf "\033[?1049l"
      else if (what == 5) printf "\033[%d;%dr", a + 1, a + 12
      else if (what == 6) printf "\r\n"
      else printf "\033]0;title %d\007", b
    }}
  }}
}}
"#
    )
}

impl Program {
    /// The line to type.
    pub(super) fn line(&self) -> String {
        format!("generate {:?} {} {}", self.kind, self.seed, self.pieces)
    }

    /// Every byte that it prints.
    pub(super) fn output(&self) -> Vec<u8> {
        let mut state = self.seed;
        let mut number = |limit: u64| {
            state = state * 16_807 % 2_147_483_647;
            state % limit
        };
        let mut out = Vec::new();
        for i in 0..self.pieces {
            match self.kind {
                Kind::Lines => {
                    out.extend_from_slice(format!("{i:06}").as_bytes());
                    for _ in 0..number(12) {
                        out.extend_from_slice(format!(" {:x}", number(65_536)).as_bytes());
                    }
                    out.push(b'\n');
                }
                Kind::Bytes => {
                    let bytes = number(64) + 1;
                    for _ in 0..bytes {
                        out.push(u8::try_from(number(256)).unwrap());
                    }
                }
                Kind::Wide => {
                    if i % 30 == 29 {
                        out.extend_from_slice(b"\r\n");
                    }
                    out.extend_from_slice(GLYPHS[usize::try_from(number(10)).unwrap()].as_bytes());
                }
                Kind::Screen => {
                    let (what, a, b) = (number(8), number(10), number(70));
                    let text = match what {
                        0 => format!("\x1b[{};{}H", a + 1, b + 1),
                        1 => format!("\x1b[3{}m{b:x}", a % 8),
                        2 => "\x1b[2J".to_owned(),
                        3 => "\x1b[?1049h".to_owned(),
                        4 => "\x1b[?1049l".to_owned(),
                        5 => format!("\x1b[{};{}r", a + 1, a + 12),
                        6 => "\r\n".to_owned(),
                        _ => format!("\x1b]0;title {b}\x07"),
                    };
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
        out
    }
}
