//! Hand-made streams: one for each thing that a terminal remembers.

use super::{Case, Known, Recording, Step, check, compare, xterm};

/// Moments of each stream at which a picture is taken.
const MOMENTS: usize = 16;

/// Name, what is sent at 80x24, and for some a new size and what follows.
type Stream = (&'static str, &'static str, &'static [((u16, u16), &'static str)]);

#[rustfmt::skip]
const STREAMS: &[Stream] = &[
    ("colors", "\x1b[31mred\x1b[44m on blue\x1b[0m \x1b[95;103mbright\x1b[m \x1b[38;5;208mindexed\x1b[48;5;17mboth\x1b[m\r\n\
        \x1b[38;2;1;2;3mtrue\x1b[48;2;250;128;114mcolor\x1b[39mback\x1b[49mback\x1b[38:2::9:8:7mcolons\x1b[m end", &[]),
    ("styles", "\x1b[1mbold\x1b[22m \x1b[2mdim\x1b[22m \x1b[3mitalic\x1b[23m \x1b[4munder\x1b[24m \x1b[5mblink\x1b[25m \x1b[7minverse\x1b[27m \
        \x1b[8mhidden\x1b[28m \x1b[9mstrike\x1b[29m \x1b[53mover\x1b[55m \x1b[21mdouble\x1b[24m \x1b[4:3mcurly\x1b[4:4mdots\x1b[4:5mdash\x1b[58;5;9mcolored\x1b[59m\x1b[4:0m \
        \x1b[1;3;4;7;9;32;45mall   of  it\x1b[m none", &[]),
    ("wide and combining", "\u{6f22}\u{5b57}e\u{301}o\u{308}\u{301} \x1b[1;79H\u{6f22}\u{5b57}x\x1b[3;3H\u{6f22}\u{5b57}\x1b[3;4Hy\x1b[4;3H\u{ff21}\x1b[4;3Hz\
        \x1b[5;1H\u{1f600}\u{1f44d}\x1b[31m\u{ac00}\x1b[m\x1b[6;1Hab\u{6f22}\x1b[2D\x1b[P\x1b[7;1H\u{6f22}\u{6f22}", &[]),
    ("insert before a wrapped line", "\x1b[1;79H\u{6f22}\u{5b57}\x1b[1;1H\x1b[@", &[]),
    ("wide beyond the edge", "\x1b[1;79H\u{6f22}\x1b[1;80H\u{5b57}x", &[]),
    ("joined emoji", "a\u{1f469}\u{200d}\u{1f680}b\u{2764}\u{fe0f}c\u{1f1e9}\u{1f1ea}d", &[]),
    ("scroll region", "\x1b[H1\r\n2\r\n3\r\n4\r\n5\r\n6\x1b[2;4r\x1b[4;1Hlast\n\nmore\x1b[2;1H\x1bMup\x1b[Lin\x1b[M\x1b[2S\x1b[T\x1b[24;1Hbelow\nstill\
        \x1b[?6h\x1b[2;2Horigin\n\n\nscrolled", &[]),
    ("alternate screen", "first\r\n\x1b[33msecond\x1b[?1049h\x1b[H\x1b[2Jfull \x1b[7mscreen\x1b[m\x1b[12;30Hmiddle\x1b[?1049l third", &[]),
    ("old alternate screens", "one\x1b[?47htwo\x1b[?47l three\x1b[?1047hfour\x1b[?1047l five\x1b[?1048h\x1b[9;9Hsix\x1b[?1048lseven", &[]),
    ("pending wrap", "\x1b[80Xabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij", &[((80, 24), "k\r\n\x1b[5;80HZ")]),
    ("pending wrap at the corner", "\x1b[24;71Habcdefghij", &[((80, 24), "k")]),
    ("pending wrap in color", "\x1b[41m\x1b[2J\x1b[3;79Hab", &[((80, 24), "c\x1b[K")]),
    ("erased with a pending wrap", "\x1b[7mabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij\x1b[m\x1b[Kx", &[]),
    ("wrapped lines", "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n\
        short\r\n0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789 end", &[]),
    ("title", "\x1b]0;both\x07a\x1b]2;\u{6f22} window\x1b\\b\x1b]1;icon\x07c\x1b[22;0t\x1b]2;inner\x07d\x1b[23;0te", &[]),
    ("application keys", "\x1b[?1h\x1b=keys\x1b[?1l\x1b>", &[]),
    ("bracketed paste and focus", "\x1b[?2004hp\x1b[?1004hf\x1b[?2004lx\x1b[?1004l", &[]),
    ("mouse", "\x1b[?9hx\x1b[?1000hn\x1b[?1002hb\x1b[?1006hs\x1b[?1003ha\x1b[?1016hp\x1b[?1006l\x1b[?1003l", &[]),
    ("cursor", "\x1b[?25lhidden\x1b[4 qunderline\x1b[5 qbar\x1b[?25hshown\x1b[0 q\x1b[?12hblinks", &[]),
    ("insert", "abcdef\x1b[4h\x1b[3Gxyz\x1b[2;75H01234\x1b[2;2H\u{6f22}\x1b[4lend", &[]),
    ("no wrap", "\x1b[?7l\x1b[2;75H0123456789\x1b[?7h\r\nr", &[]),
    ("reverse wrap", "ab\r\ncd\x1b[?45hr\x08\x08", &[]),
    ("newline mode", "ab\x1b[20hcd\nef\x1b[20lgh\nij", &[]),
    ("character sets", "\x1b(0lqqk\x1b(B \x1b)0\x0emjx\x0fplain\x0eqq\x1b*0\x1bnq\x1bo", &[]),
    ("tab stops", "a\tb\x1b[3g\x1b[5G\x1bH\x1b[20G\x1bH\r\tc\td\te\x1b[20G\x1b[g\rf\tg\th", &[]),
    ("saved cursor", "\x1b[5;10H\x1b[1;34m\x1b(0\x1b7\x1b(B\x1b[m\x1b[20;1Helsewhere\x1b8q\x1b[s\x1b[H\x1b[uq", &[]),
    ("pen", "\x1b[1;4;31;46mfirst\x1b[10;10H second \x1b[K\x1b[38;2;9;9;9mthird\x1b[11;1H\x1b[2X\x1b[2P\x1b[3@\x1b[L", &[]),
    ("erased in color", "\x1b[44m\x1b[2J\x1b[5;5H\x1b[1J\x1b[42m\x1b[10;10H\x1b[J\x1b[41m\x1b[7;20H\x1b[1K\x1b[43m\x1b[3;3H\x1b[5X\x1b[m\x1b[24;1H\n\ndone", &[]),
    ("scrolled in color", "\x1b[45m\x1b[24;1H\n\n\x1b[3;6r\x1b[6;1H\n\x1b[m\x1b[r\x1b[24;1H\nplain\x1b[2;4H\x1b[46m\x1b[M\x1b[m", &[]),
    ("links", "\x1b]8;;https://example.com/a\x1b\\here\x1b]8;;\x1b\\ and \x1b]8;id=1;https://example.com/b\x07there", &[]),
    ("repeated", "x\x1b[5by\x1b[2;3Hz\x1b[90b\u{6f22}\x1b[2b", &[]),
    ("unfinished sequences", "a\x1b[31;1mb\x1b]2;longer title\x07c\u{6f22}d\x1bP+q544e\x1b\\e\x1b[?2004;1hf\x1b(0q\x1b(B\x1b]8;;https://example.com/x\x1b\\l", &[]),
    ("synchronized", "before\x1b[?2026hduring", &[]),
    ("reset", "text\x1b[31m\x1b[2;5r\x1b[?1h\x1b[!pafter\x1bcagain", &[]),
    ("screen test", "\x1b#8\x1b[5;5H\x1b[Kx", &[]),
    ("narrower", "0123456789012345678901234567890123456789012345678901234567890123456789012345678\r\nsecond line that is rather long, so that it must be wrapped\r\n$ ",
        &[((40, 24), "ls\r\nout\r\n$ ")]),
    ("wider", "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\nsecond\r\n$ ",
        &[((120, 30), "ls\r\nout\r\n$ ")]),
    ("lower and higher", "1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n9\r\n10\r\n11\r\n12\r\n13\r\n14\r\n15\r\n16\r\n17\r\n18\r\n19\r\n20\r\n$ ",
        &[((80, 10), "a\r\n$ "), ((80, 24), "b\r\n$ ")]),
    ("alternate screen resized", "shell\r\n$ \x1b[?1049h\x1b[H\x1b[2Jfull\x1b[24;1Hstatus\x1b[1;75Hcorner",
        &[((60, 12), "\x1b[H\x1b[2Jredrawn\x1b[12;1Hstatus"), ((100, 40), "\x1b[H\x1b[2Jagain\x1b[40;1Hstatus\x1b[?1049l$ ")]),
    ("alternate screen lower", "\x1b[?1049h\x1b[Htop\x1b[12;1Hmiddle\x1b[24;1Hbottom", &[((80, 16), "\x1b[H\x1b[2Jredrawn")]),
    ("region resized", "\x1b[2;5rtext\x1b[3;3Hin", &[((80, 30), "\x1b[5;1H\n\nx\x1b[30;1Hy\n")]),
];

/// A picture ends with the cursor being placed, so what refers to the character before it finds none. That takes a
/// picture in the very middle of what a program writes at once.
const NO_CHARACTER_BEFORE: &str =
    "a combining mark or REP as the first thing after the picture has nothing to refer to";

/// The cursor is on the last character then.
pub(super) const ERASED_WITH_A_PENDING_WRAP: &str = "with a pending wrap EL erases the last character and the wrap on xterm (and the model), nothing on xterm.js";

/// Until the program draws anew.
pub(super) const LOWER_ALTERNATE_SCREEN: &str = "a lower alternate screen loses rows at its end in the model, on xterm.js those at its start when the cursor is below";

/// What differs and stays so.
#[rustfmt::skip]
const KNOWN: &[Known] = &[
    ("alternate screen lower", "cells", LOWER_ALTERNATE_SCREEN),
    ("alternate screen resized", "cursor", "the model keeps a wrap pending when a narrower screen cuts the cursor off"),
    ("old alternate screens", "cells", "xterm.js clears the alternate screen for each of its modes, xterm (and the model) not for 47"),
    ("erased with a pending wrap", "cells", ERASED_WITH_A_PENDING_WRAP),
    ("erased with a pending wrap", "cursor", ERASED_WITH_A_PENDING_WRAP),
    ("erased with a pending wrap", "wraps", ERASED_WITH_A_PENDING_WRAP),
    ("erased with a pending wrap", "cells", ERASED_WITH_A_PENDING_WRAP),
    ("insert before a wrapped line", "wraps", "the model takes a line whose end changed for whole, xterm.js for still wrapped"),
    ("joined emoji", "cells", NO_CHARACTER_BEFORE),
    ("joined emoji", "cursor", NO_CHARACTER_BEFORE),
    ("wide and combining", "cells", NO_CHARACTER_BEFORE),
    ("repeated", "cells", NO_CHARACTER_BEFORE),
    ("repeated", "cursor", NO_CHARACTER_BEFORE),
    ("repeated", "wraps", NO_CHARACTER_BEFORE),
    ("mouse", "mode mouseTrackingMode", "the model does not know mode 9, clicks as of X10"),
    ("mouse", "mouse encoding", "for xterm.js the end of one encoding ends them all"),
    ("newline mode", "cells", "the model does not know LNM"),
    ("newline mode", "cursor", "the model does not know LNM"),
    ("no wrap", "cursor", "xterm.js puts the cursor beyond the last column although it may not wrap"),
    ("reverse wrap", "mode reverseWraparoundMode", "the model does not know mode 45"),
    ("screen test", "cells", "the model does not know DECALN"),
    ("synchronized", "mode synchronizedOutputMode", "ended on purpose: the picture would stay invisible until the next frame"),
    ("title", "title", "a picture has the title and not the stack of titles, so one that was saved before it cannot come back"),
    ("wide beyond the edge", "cells", "xterm.js breaks the wide character there is, xterm (and the model) only wraps"),
];

#[test]
fn streams_look_alike_on_xterm_js() {
    let Some(xterm) = xterm() else { return };
    let mut cases = Vec::new();
    for (name, first, more) in STREAMS {
        let mut steps = vec![Step::Size(80, 24), Step::Output(first.as_bytes().to_vec())];
        for ((cols, rows), output) in *more {
            steps.extend([Step::Size(*cols, *rows), Step::Output(output.as_bytes().to_vec())]);
        }
        let recording = Recording(steps);
        for (at, moment) in recording.moments(MOMENTS).into_iter().enumerate() {
            cases.push((*name, Case::painted(&recording, moment, at % 2 == 0)));
        }
    }
    // A long scrollback, more than a picture holds.
    let lines: String = (0..300).map(|line| format!("\x1b[{}mline {line}\r\n", 30 + line % 8)).collect();
    let recording = Recording(vec![Step::Size(80, 24), Step::Output((lines + "$ ").into_bytes())]);
    cases.extend(
        recording
            .moments(4)
            .into_iter()
            .map(|moment| ("scrollback", Case::painted(&recording, moment, true))),
    );
    check(&compare(&xterm, &cases), KNOWN);
}
