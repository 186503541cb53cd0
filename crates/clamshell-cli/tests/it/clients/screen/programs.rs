//! Real programs in a real shell: their bytes as the server recorded them, the picture as the server paints it.

use std::time::Duration;

use clamshell_term::frame::ShellFrame;
use clamshell_testkit::{Client, ShellSocket, eventually, skip};
use serde_json::Value;

use super::{
    Case, Known, Moment, Recording, Step, check, compare,
    streams::{ERASED_WITH_A_PENDING_WRAP, LOWER_ALTERNATE_SCREEN},
    xterm,
};
use crate::clients::Setting;

/// How long a program may take to draw; generous, because test machines are shared.
const LIMIT: Duration = Duration::from_secs(60);

/// Moments of each recording at which another picture is painted, by the model alone.
const MOMENTS: usize = 12;

/// What a user does. A marker is text that the program shows and that was not typed.
enum Do {
    /// Type, then wait for the marker.
    Type(&'static str, &'static str),
    /// Another size; a program that fills the screen draws it anew.
    Resize(u16, u16),
    /// Ask the server for its picture.
    Look,
}

/// A program, what it needs, and what is done with it.
struct Program {
    name: &'static str,
    needs: &'static str,
    steps: &'static [Do],
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "bash",
        needs: "bash",
        steps: &[
            Do::Type(
                "PS1='\\[\\e]0;at \\w\\a\\e[1;32m\\]user\\[\\e[m\\]:\\[\\e[34m\\]\\w\\[\\e[m\\]$ '; bind 'set enable-bracketed-paste on'; echo go-$((6*7))\r",
                "go-42",
            ),
            Do::Type("ls --color=always -l /usr; echo listed-$((6*7))\r", "listed-42"),
            Do::Look,
            // Longer than a line, with the cursor back in the middle of it.
            Do::Type(
                "echo abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz wrapped-$((6*7))\x1b[D\x1b[D\x1b[D",
                "6*7))",
            ),
            Do::Look,
            Do::Type("\r", "wrapped-42"),
            Do::Resize(100, 30),
            Do::Type("echo wider-$((6*7))\r", "wider-42"),
            Do::Look,
        ],
    },
    Program {
        name: "256 colors",
        needs: "bash",
        steps: &[
            Do::Type(
                "for i in $(seq 0 255); do printf '\\e[48;5;%dm%4d\\e[m' $i $i; done; printf '\\e[38;2;1;2;3mtable-%d\\e[m\\n' 42\r",
                "table-42",
            ),
            Do::Look,
            Do::Resize(60, 20),
            Do::Type("echo narrow-$((6*7))\r", "narrow-42"),
        ],
    },
    Program {
        name: "wide text",
        needs: "bash",
        steps: &[
            Do::Type(
                "printf '\\u6f22\\u5b57 e\\u0301 \\U1f600 %.0s' $(seq 30); echo wide-$((6*7))\r",
                "wide-42",
            ),
            Do::Look,
        ],
    },
    Program {
        name: "vim",
        needs: "vim",
        steps: &[
            Do::Type(
                "seq -f 'let line%g = \"text\" \" comment' 200 > /tmp/file.vim; vim -u NONE -N --cmd 'set mouse=a notitle | syntax on' /tmp/file.vim\r",
                "\x1b[?1049h",
            ),
            Do::Type(":set number hlsearch | echo 'drawn-' . (6*7)\r", "drawn-42"),
            Do::Look,
            Do::Type("/line11\r", "line11"),
            Do::Type("\x06\x06:split | echo 'split-' . (6*7)\r", "split-42"),
            Do::Look,
            Do::Type("oinserted text\x1b:echo 'typed-' . (6*7)\r", "typed-42"),
            Do::Resize(100, 30),
            Do::Type(":echo 'resized-' . (6*7)\r", "resized-42"),
            Do::Look,
            Do::Type(":qa!\r", "\x1b[?1049l"),
        ],
    },
    Program {
        name: "less",
        needs: "less",
        steps: &[
            Do::Type("seq -f 'some line %g of a long file' 500 | LESS= less -N\r", "line 23 "),
            Do::Look,
            Do::Type("/line 47\r", "some line 69 "),
            Do::Type("g", "some line 1 "),
            Do::Look,
            Do::Resize(60, 16),
            Do::Type("G", "line 500 "),
            Do::Look,
            Do::Type("q", "\x1b[?1049l"),
        ],
    },
    Program {
        name: "top",
        needs: "top",
        steps: &[
            Do::Type("top -d 100\r", "COMMAND"),
            Do::Look,
            Do::Type("z", "COMMAND"),
            Do::Resize(100, 30),
            Do::Type("x", "COMMAND"),
            Do::Look,
            // Keys that come while it draws are dropped, this is not.
            Do::Type("\x03", "\x1b[?12l"),
        ],
    },
    Program {
        name: "tmux",
        needs: "tmux",
        steps: &[
            Do::Type("tmux -f /dev/null -L screen -u new-session bash --norc\r", "\x1b[?1049h"),
            Do::Type("echo pane-$((6*7))\r", "pane-42"),
            Do::Type("tmux -L screen split-window -h bash --norc\r", "\u{2502}"),
            Do::Type("seq 50; echo right-$((6*7))\r", "right-42"),
            Do::Look,
            Do::Resize(100, 30),
            Do::Type("ls --color=always /; echo larger-$((6*7))\r", "larger-42"),
            Do::Look,
            Do::Type("tmux -L screen kill-server\r", "\x1b[?1049l"),
        ],
    },
];

/// What may differ. Whether it shows depends on where in the bytes a picture is taken and on what is installed; a hand-made
/// stream has each of these reasons for certain, and fails once it no longer holds.
#[rustfmt::skip]
const KNOWN: &[Known] = &[
    ("less", "cells", LOWER_ALTERNATE_SCREEN),
    ("top", "cells", ERASED_WITH_A_PENDING_WRAP),
    ("top", "cursor", ERASED_WITH_A_PENDING_WRAP),
    ("top", "wraps", ERASED_WITH_A_PENDING_WRAP),
];

/// A shell that is recorded.
struct Shell {
    client: Client,
    socket: ShellSocket,
    path: String,
    resized: usize,
}

impl Shell {
    async fn open(client: &Client, session: &str, at: usize) -> Self {
        let shell = format!("screen{at}");
        let socket = client.shell(session, &shell).await.unwrap();
        let path = format!("/clamshell/v1/sessions/{session}/shells/{shell}");
        Self { client: client.clone(), socket, path, resized: 0 }
    }

    async fn get(&self, suffix: &str) -> clamshell_testkit::Reply {
        self.client.request("GET", &format!("{}{suffix}", self.path), &[], &[]).await.unwrap()
    }

    async fn act(&mut self, step: &Do) -> Option<(usize, usize, Vec<u8>)> {
        match step {
            Do::Type(keys, marker) => {
                self.socket.input(keys.as_bytes()).await.unwrap();
                self.socket.read_until(marker).await.unwrap();
            }
            Do::Resize(cols, rows) => {
                self.resized += 1;
                self.socket.send(&ShellFrame::Resize { width: *cols, height: *rows }).await.unwrap();
                eventually("the new size", LIMIT, async || {
                    let shown = self.get("").await.json();
                    if shown["cols"] == *cols && shown["rows"] == *rows { Ok(()) } else { Err(shown) }
                })
                .await;
            }
            Do::Look => {
                let picture = self.get("/screen").await;
                let offset = picture.header("x-clamshell-offset").parse().unwrap();
                return Some((offset, self.resized, picture.body.to_vec()));
            }
        }
        None
    }

    /// Everything that happened, out of the server's recording.
    async fn recording(&self) -> Recording {
        let export = self.get("/export").await;
        let mut lines = std::str::from_utf8(&export.body).unwrap().lines();
        let json = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let header = json(lines.next().unwrap());
        let size = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
        let mut steps = vec![Step::Size(size(&header["width"]), size(&header["height"]))];
        for line in lines.map(json) {
            let data = line[2].as_str().unwrap();
            match line[1].as_str().unwrap() {
                "o" => steps.push(Step::Output(data.as_bytes().to_vec())),
                _ => {
                    let (cols, rows) = data.split_once('x').unwrap();
                    steps.push(Step::Size(cols.parse().unwrap(), rows.parse().unwrap()));
                }
            }
        }
        Recording(steps)
    }
}

/// Whether a combining mark or REP is close to a moment: the hand-made streams have those, here they would come and go
/// with how the kernel hands out the bytes.
fn refers_back(recording: &Recording, moment: Moment) -> bool {
    let outputs = |steps: &[Step]| -> Vec<u8> {
        steps
            .iter()
            .flat_map(|step| if let Step::Output(output) = step { &output[..] } else { &[] })
            .copied()
            .collect()
    };
    let (live, rest) = recording.split(moment);
    let (live, rest) = (outputs(&live), outputs(&rest));
    let near = [&live[live.len().saturating_sub(8)..], &rest[..rest.len().min(12)]].concat();
    let is_repeat = |sequence: &[u8]| {
        let digits = sequence.iter().skip(2).take_while(|byte| byte.is_ascii_digit()).count();
        sequence.starts_with(b"\x1b[") && digits > 0 && sequence.get(2 + digits) == Some(&b'b')
    };
    (0..near.len()).any(|at| near[at..].starts_with("\u{301}".as_bytes()) || is_repeat(&near[at..]))
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_look_alike_on_xterm_js() {
    let Some(xterm) = xterm() else { return };
    let Some(setting) = Setting::plain("xterm/node_modules").await else { return };
    let client = setting.client().await;
    let session = "painted-screens-of-real-programs-0001";
    let mut cases = Vec::new();
    for (at, program) in PROGRAMS.iter().enumerate() {
        let found = client.command(session, &format!("command -v {}", program.needs), 60).await.unwrap();
        if found.stdout.is_empty() {
            let _: Option<()> = skip(&format!("there is no {} in the sandbox", program.needs));
            continue;
        }
        let mut shell = Shell::open(&client, session, at).await;
        let mut looks = Vec::new();
        for step in program.steps {
            looks.extend(shell.act(step).await);
        }
        shell.act(&Do::Type("\rstty -echo; echo over-$((6*7))\r", "over-42")).await;
        let recording = shell.recording().await;
        for (offset, sizes, picture) in looks {
            let (live, rest) = recording.split(recording.moment(offset, sizes));
            cases.push((program.name, Case { live, picture, rest, is_fresh: true }));
        }
        let moments =
            recording.moments(MOMENTS).into_iter().filter(|moment| !refers_back(&recording, *moment));
        for (at, moment) in moments.enumerate() {
            cases.push((program.name, Case::painted(&recording, moment, at % 2 == 0)));
        }
    }
    let found = compare(&xterm, &cases);
    let shows = |(group, kind, _): &&Known| found.get(*group).is_some_and(|kinds| kinds.contains_key(*kind));
    let known: Vec<Known> = KNOWN.iter().filter(shows).copied().collect();
    check(&found, &known);
}
