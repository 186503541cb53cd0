// Shows terminal streams in headless xterm.js and tells where a painted screen differs from the stream it stands for.
//
// usage: node xterm_screen.mjs CASES.json
//
// A case: `live`, the steps of a stream up to the moment of the picture; `picture`, the bytes that paint it;
// `before`, what the client's terminal had shown already; `rest`, the steps that follow for both.
// A step is `[cols, rows]` or a string of output, one character (U+0000 to U+00FF) a byte. Printed: for each
// case an object of differences, each kind with a few places.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.XTERM}/package.json`);
const { Terminal } = require("@xterm/headless");
const { Unicode11Addon } = require("@xterm/addon-unicode11");

// As many lines as a picture has above the visible ones.
const SCROLLBACK = 100;
const PLACES = 3;

function open(cols, rows) {
    const windowOptions = { pushTitle: true, popTitle: true };
    const terminal = new Terminal({ cols, rows, scrollback: 1000, windowOptions, allowProposedApi: true, logLevel: "off" });
    // Widths as terminals of today have them.
    terminal.loadAddon(new Unicode11Addon());
    terminal.unicode.activeVersion = "11";
    const seen = { terminal, title: "" };
    terminal.onTitleChange((title) => (seen.title = title));
    return seen;
}

// Whatever saves the cursor.
const SAVES = /\x1b7|\x1b\[s|\x1b\[\?104[89]h/;

async function play(seen, steps) {
    for (const step of steps) {
        if (Array.isArray(step)) {
            seen.terminal.resize(...step);
            continue;
        }
        seen.saves ||= SAVES.test(step);
        await new Promise((done) => seen.terminal.write(Buffer.from(step, "latin1"), done));
    }
}

const underlines = ["none", "single", "double", "curly", "dotted", "dashed"];

// SGR 59 leaves other bits than there were before the first color; it means the same.
const usual = (underlineColor) => [0, 0x3ffffff].includes(underlineColor);

// The first 16 indexed colors are the named ones: a terminal has one palette for both.
const mode = (colorMode, color) => (colorMode === 0x1000000 && color < 16 ? 0x2000000 : colorMode);

function look(cell, links) {
    const flags = [];
    const blank = ["", " "].includes(cell.getChars());
    const lined = cell.isUnderline() || cell.isStrikethrough() || cell.isOverline();
    if (cell.isInverse()) flags.push("inverse");
    if (cell.isUnderline()) {
        const color = usual(cell.extended.underlineColor) || cell.isUnderlineColorDefault() ? "" : `:${mode(cell.getUnderlineColorMode(), cell.getUnderlineColor())}:${cell.getUnderlineColor()}`;
        flags.push(`underline-${underlines[cell.getUnderlineStyle()]}${color}`);
    }
    if (cell.isStrikethrough()) flags.push("strike");
    if (cell.isOverline()) flags.push("overline");
    // Ink that no blank cell shows.
    if (!blank) {
        for (const flag of ["Bold", "Dim", "Italic", "Blink", "Invisible"]) if (cell[`is${flag}`]()) flags.push(flag);
    }
    const inked = !blank || lined || cell.isInverse();
    const link = cell.extended?.urlId ? links.getLinkData(cell.extended.urlId)?.uri : "";
    return {
        cells: [
            cell.getChars() || " ",
            cell.getWidth(),
            inked ? `${mode(cell.getFgColorMode(), cell.getFgColor())}:${cell.getFgColor()}` : "",
            `${mode(cell.getBgColorMode(), cell.getBgColor())}:${cell.getBgColor()}`,
            flags.join("+"),
        ].join(" "),
        links: link ?? "",
    };
}

function lines(buffer, from, to, cols, links) {
    const rows = [];
    for (let y = from; y < to; y++) {
        const line = buffer.getLine(y);
        const cells = [];
        for (let x = 0; line && x < cols; x++) {
            const cell = line.getCell(x);
            cells.push(cell ? look(cell, links) : { cells: "  1  0:0 ", links: "" });
        }
        rows.push({ cells, wrapped: line?.isWrapped ?? false });
    }
    return rows;
}

function pen(attributes) {
    const { fg, bg, extended } = attributes;
    const palette = (bits) => ((bits & 0x3000000) === 0x1000000 ? bits ^ 0x3000000 : bits);
    return [palette(fg), palette(bg), extended.underlineStyle, usual(extended.underlineColor) ? 0 : extended.underlineColor].join(" ");
}

const charset = (set) => (set ? JSON.stringify(Object.entries(set).slice(0, 3)) : "ascii");

function snapshot({ terminal, title }) {
    const { cols, rows } = terminal;
    const { active, normal } = terminal.buffer;
    const core = terminal._core;
    const links = core._oscLinkService;
    const inside = core._bufferService.buffer;
    const alternate = active.type === "alternate";
    const state = { buffer: active.type, title };
    for (const [name, value] of Object.entries(terminal.modes)) state[`mode ${name}`] = String(value);
    state["mouse encoding"] = core.coreMouseService.activeEncoding;
    state["cursor shown"] = String(!core.coreService.isCursorHidden);
    const { cursorStyle, cursorBlink } = core.coreService.decPrivateModes;
    state["cursor style"] = `${cursorStyle ?? terminal.options.cursorStyle} ${cursorBlink ?? terminal.options.cursorBlink}`;
    state.cursor = `${active.cursorX},${active.cursorY}`;
    state["scroll region"] = `${inside.scrollTop}-${inside.scrollBottom}`;
    state["tab stops"] = Object.keys(inside.tabs).filter((at) => inside.tabs[at] && Number(at) > 0 && Number(at) < cols).join(" ");
    state["saved cursor"] = [
        `${Math.min(inside.savedX, cols - 1)},${Math.max(inside.savedY - inside.ybase, 0)}`,
        pen(inside.savedCurAttrData),
        charset(inside.savedCharset),
    ].join(" ");
    state.pen = pen(core._inputHandler._curAttrData);
    const charsets = core._charsetService;
    state.charsets = `${charsets.glevel} ${charset(charsets.charset)}`;
    const pictures = { "": lines(active, active.baseY, active.baseY + rows, cols, links) };
    if (alternate) pictures["hidden "] = lines(normal, normal.baseY, normal.baseY + rows, cols, links);
    pictures["scrollback "] = lines(normal, Math.max(0, normal.baseY - SCROLLBACK), normal.baseY, cols, links);
    return { state, pictures };
}

function compare(live, painted, when, saves, found) {
    const add = (kind, place) => {
        const places = (found[kind] ??= []);
        if (places.length < PLACES) places.push(`${when}: ${place}`);
    };
    for (const [name, value] of Object.entries(live.state)) {
        // One that was never saved moves along when xterm.js lays out lines anew.
        if (name === "saved cursor" && !saves) continue;
        if (painted.state[name] !== value) add(name, `${painted.state[name]} instead of ${value}`);
    }
    for (const name of new Set([...Object.keys(live.pictures), ...Object.keys(painted.pictures)])) {
        const [theirs, ours] = [live.pictures[name] ?? [], painted.pictures[name] ?? []];
        if (theirs.length !== ours.length) {
            add(`${name}lines`, `${ours.length} instead of ${theirs.length}`);
            continue;
        }
        theirs.forEach((line, y) => {
            if (ours[y].wrapped !== line.wrapped) add(`${name}wraps`, `row ${y} ${ours[y].wrapped} instead of ${line.wrapped}`);
            line.cells.forEach((cell, x) => {
                for (const kind of ["cells", "links"]) {
                    const our = ours[y].cells[x]?.[kind];
                    if (our !== cell[kind]) add(`${name}${kind}`, `row ${y} column ${x} [${our}] instead of [${cell[kind]}]`);
                }
            });
        });
    }
}

const answers = [];
for (const { live: [size, ...live], picture, at: [cols, rows], before, rest } of JSON.parse(readFileSync(process.argv[2]))) {
    const found = {};
    const [stream, painted] = [open(...size), open(cols, rows)];
    await play(stream, live);
    await play(painted, [before, picture]);
    compare(snapshot(stream), snapshot(painted), "at once", stream.saves, found);
    for (const step of rest) {
        await play(stream, [step]);
        await play(painted, [step]);
    }
    compare(snapshot(stream), snapshot(painted), "later", stream.saves, found);
    answers.push(found);
    stream.terminal.dispose();
    painted.terminal.dispose();
}
console.log(JSON.stringify(answers));
