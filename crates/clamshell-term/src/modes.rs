//! What an application switched on in the user's terminal, so that detaching can switch it off.
//!
//! Raw mode alone is not enough: a client that detaches from a full-screen program would leave the
//! alternate screen, mouse reports or a hidden cursor behind. Sending every reset blindly is no way
//! out either: leaving an alternate screen that was never entered moves the cursor. So the tracker
//! reads the output as it passes and resets only what is on.
//!
//! Sans-I/O and bounded; bytes come from a sandbox and are hostile.

/// A sequence longer than this sets no mode.
const SEQUENCE_BYTES_MAX: usize = 64;

/// Kitty keyboard flags form a stack; terminals keep some tens of entries at most.
const KEYBOARD_DEPTH_MAX: u32 = 64;

/// Private modes that matter to whoever uses the terminal next, and whether they are normally on.
/// The alternate screen comes last, because terminals keep some of the others for each screen.
const PRIVATE_MODES: [(u16, bool); 18] = [
    (1, false),    // application cursor keys
    (7, true),     // wrap at the right edge
    (9, false),    // mouse: presses only
    (1000, false), // mouse: presses and releases
    (1002, false), // mouse: drags
    (1003, false), // mouse: all motion
    (1004, false), // focus reports
    (1005, false), // mouse: UTF-8 coordinates
    (1006, false), // mouse: SGR coordinates
    (1015, false), // mouse: urxvt coordinates
    (1016, false), // mouse: pixel coordinates
    (2004, false), // bracketed paste
    (2026, false), // synchronized output
    (2031, false), // color scheme reports
    (25, true),    // cursor
    (47, false),   // alternate screen, three spellings
    (1047, false),
    (1049, false),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    Escape,
    /// Inside `ESC [ ...`.
    Control,
    /// Inside a string (`ESC ]`, `ESC P`, `ESC _`, `ESC ^`, `ESC X`), which may hold anything.
    Str,
    /// After an escape inside a string.
    StrEscape,
}

/// Follows the output of a shell.
#[derive(Debug, Clone)]
pub struct ModeTracker {
    place: Place,
    sequence: Vec<u8>,
    /// Beside [`PRIVATE_MODES`].
    on: [bool; PRIVATE_MODES.len()],
    keypad: bool,
    modify_other_keys: bool,
    keyboard_depth: u32,
    styled: bool,
}

impl Default for ModeTracker {
    fn default() -> Self {
        Self {
            place: Place::Text,
            sequence: Vec::new(),
            on: PRIVATE_MODES.map(|(_, normally)| normally),
            keypad: false,
            modify_other_keys: false,
            keyboard_depth: 0,
            styled: false,
        }
    }
}

impl ModeTracker {
    /// A terminal as a shell finds it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next piece of output.
    pub fn on_output(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.place == Place::Text {
                // Most of output is text: go straight to the next escape.
                let Some(escape) = rest.iter().position(|byte| *byte == 0x1b) else {
                    return;
                };
                self.place = Place::Escape;
                rest = &rest[escape + 1..];
                continue;
            }
            rest = after;
            self.on_byte(byte);
        }
    }

    /// What puts the terminal back in order; empty when it is.
    pub fn reset(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if matches!(self.place, Place::Str | Place::StrEscape) {
            // End the string, or the terminal swallows all that follows.
            out.extend_from_slice(b"\x1b\\");
        }
        if self.keyboard_depth > 0 {
            out.extend_from_slice(format!("\x1b[<{}u", self.keyboard_depth).as_bytes());
        }
        if self.modify_other_keys {
            out.extend_from_slice(b"\x1b[>4m");
        }
        if self.keypad {
            out.extend_from_slice(b"\x1b>");
        }
        for ((mode, normally), on) in PRIVATE_MODES.iter().zip(self.on) {
            if on != *normally {
                let end = if *normally { 'h' } else { 'l' };
                out.extend_from_slice(format!("\x1b[?{mode}{end}").as_bytes());
            }
        }
        if self.styled {
            out.extend_from_slice(b"\x1b[m");
        }
        out
    }

    fn on_byte(&mut self, byte: u8) {
        self.place = match (self.place, byte) {
            (Place::Str, 0x07 | 0x18 | 0x1a) => Place::Text,
            (Place::Str, 0x1b) => Place::StrEscape,
            (Place::Str, _) => Place::Str,
            // Any other escape sequence ends the string too.
            (Place::StrEscape, b'\\') => Place::Text,
            (_, 0x1b) => Place::Escape,
            (Place::Escape | Place::StrEscape, _) => self.after_escape(byte),
            (Place::Control, 0x40..=0x7e) => {
                self.on_control(byte);
                Place::Text
            }
            (Place::Control, 0x18 | 0x1a) => Place::Text,
            (Place::Control, _) => {
                if self.sequence.len() < SEQUENCE_BYTES_MAX {
                    self.sequence.push(byte);
                }
                Place::Control
            }
            (Place::Text, _) => Place::Text,
        };
    }

    fn after_escape(&mut self, byte: u8) -> Place {
        match byte {
            b'[' => {
                self.sequence.clear();
                return Place::Control;
            }
            b']' | b'P' | b'_' | b'^' | b'X' => return Place::Str,
            b'=' => self.keypad = true,
            b'>' => self.keypad = false,
            b'c' => *self = Self::default(),
            _ => {}
        }
        Place::Text
    }

    fn on_control(&mut self, end: u8) {
        if self.sequence.len() >= SEQUENCE_BYTES_MAX {
            return;
        }
        let sequence = std::mem::take(&mut self.sequence);
        match (sequence.split_first(), end) {
            (Some((b'?', modes)), b'h' | b'l') => {
                for mode in modes.split(|byte| *byte == b';') {
                    let mode = number(mode);
                    for (index, (known, _)) in PRIVATE_MODES.iter().enumerate() {
                        if mode == Some(u32::from(*known)) {
                            self.on[index] = end == b'h';
                        }
                    }
                }
            }
            (Some((b'>', rest)), b'm') => {
                // `> 4 ; level m` sets, `> 4 m` and `> m` reset.
                let mut numbers = rest.split(|byte| *byte == b';');
                match numbers.next().and_then(number) {
                    Some(4) => {
                        self.modify_other_keys =
                            numbers.next().and_then(number).is_some_and(|level| level > 0);
                    }
                    None => self.modify_other_keys = false,
                    Some(_) => {}
                }
            }
            (Some((b'>', _)), b'u') => {
                self.keyboard_depth = (self.keyboard_depth + 1).min(KEYBOARD_DEPTH_MAX);
            }
            (Some((b'<', count)), b'u') => {
                self.keyboard_depth = self.keyboard_depth.saturating_sub(number(count).unwrap_or(1));
            }
            (Some((b'!', [])), b'p') => {
                // A soft reset does not leave the alternate screen nor the mouse.
                self.styled = false;
                self.keypad = false;
                for (index, (mode, normally)) in PRIVATE_MODES.iter().enumerate() {
                    if matches!(mode, 1 | 7 | 25) {
                        self.on[index] = *normally;
                    }
                }
            }
            (None, b'm') => self.styled = false,
            (Some((b'0'..=b'9' | b';' | b':', _)), b'm') => {
                let last = sequence.rsplit(|byte| *byte == b';').next().unwrap_or_default();
                self.styled = !last.iter().all(|byte| *byte == b'0') || is_color(&sequence);
            }
            _ => {}
        }
    }
}

/// Whether a style ends in the color number 0, as in `38;5;0`, and not in a reset.
fn is_color(sequence: &[u8]) -> bool {
    let mut numbers = sequence.rsplit(|byte| *byte == b';').map(number).skip(1);
    let numbers = [numbers.next(), numbers.next(), numbers.next(), numbers.next()].map(Option::flatten);
    matches!(numbers, [Some(5), Some(38 | 48 | 58), ..] | [_, _, Some(2), Some(38 | 48 | 58)])
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(output: &str, reset: &str) {
        for cut in 1..=output.len().max(1) {
            let mut tracker = ModeTracker::new();
            for piece in output.as_bytes().chunks(cut) {
                tracker.on_output(piece);
            }
            assert_eq!(String::from_utf8(tracker.reset()).unwrap(), reset, "{output:?} cut at {cut}");
        }
    }

    #[test]
    fn an_untouched_terminal_needs_nothing() {
        check("", "");
        check("$ ls\r\nfile\r\n", "");
        check("\x1b[1;31mred\x1b[0m \x1b[mx", "");
        check("\x1b[?1049h\x1b[?25l\x1b[?25h\x1b[?1049l", "");
    }

    #[test]
    fn what_is_on_goes_off() {
        check("\x1b[?1049h\x1b[?1h\x1b=\x1b[?25l", "\x1b>\x1b[?1l\x1b[?25h\x1b[?1049l");
        check("\x1b[?1000;1006;2004h", "\x1b[?1000l\x1b[?1006l\x1b[?2004l");
        check("\x1b[?7l", "\x1b[?7h");
        check("\x1b[>1u\x1b[>5u\x1b[>1u\x1b[<u", "\x1b[<2u");
        check("\x1b[>4;2m", "\x1b[>4m");
        check("\x1b[>4;2m\x1b[>4m", "");
        check("\x1b[38;5;0mblack", "\x1b[m");
        check("\x1b[38;2;1;2;0mgreenish", "\x1b[m");
        check("\x1b[1;0m", "");
        check("\x1b[1m", "\x1b[m");
        check("\x1b[?1000h\x1bc", "");
        check("\x1b[1m\x1b[?25l\x1b[!p", "");
    }

    #[test]
    fn strings_hide_what_is_in_them() {
        check("\x1b]0;title [?1049h\x07", "");
        check("\x1bPq[?25l\x1b\\", "");
        check("\x1b]0;never ended", "\x1b\\");
        check("\x1b]0;cut by another\x1b[?25l", "\x1b[?25h");
    }

    #[test]
    fn endless_sequences_do_nothing() {
        check(&format!("\x1b[?{};25l", "0".repeat(100)), "");
    }

    proptest! {
        #[test]
        fn a_reset_leaves_nothing_to_reset(bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(0x1b), Just(b'['), Just(b'?'), Just(b'h'), b'0'..=b'9'], 0..300))
        {
            let mut tracker = ModeTracker::new();
            tracker.on_output(&bytes);
            // An unfinished sequence would swallow the reset, as it would in the terminal.
            tracker.on_output(b"\x18");
            let reset = tracker.reset();
            tracker.on_output(&reset);
            prop_assert_eq!(tracker.reset(), Vec::<u8>::new());
            prop_assert!(tracker.sequence.len() <= SEQUENCE_BYTES_MAX);
        }
    }
}
