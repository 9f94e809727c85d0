//! Finds personal data in one pass. Every decision looks a bounded way back and ahead.
//!
//! Redacting twice is redacting once, because a mark (`[REDACTED:EMAIL]`, `[EMAIL:…]`) never makes a finding of what was
//! none: to its right it is what a finding is while it is read, a sign that belongs to nothing; to its left it stands
//! for the digits or letters that it replaced, so what they kept from being a number or an address is none still.
#![expect(
    clippy::items_after_statements,
    clippy::match_same_arms,
    clippy::nonminimal_bool,
    clippy::question_mark,
    clippy::too_many_lines,
    reason = "a grammar or a table, read best in one place and as it is written"
)]

use std::net::Ipv6Addr;

/// How many digits of one number are looked at.
const MAX_DIGITS: usize = 40;
/// How many groups of one number are looked at: a phone number has eight at most, and what separates it from the next
/// says whether it ends there.
const MAX_GROUPS: usize = 9;
/// How far an address reaches: RFC 5321 allows 64 bytes before the `@` and 255 after it.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 255;
/// Signs that may stand in the name before an `@`, and do not begin it.
const SIGNS: [char; 10] = ['.', '-', '+', '\'', '!', '#', '$', '^', '~', '%'];
/// How long the name of a kind in a mark is, at most.
const MAX_KIND: usize = 64;
/// How many signs that are not seen may stand in one place.
const MAX_HIDDEN: u32 = 4;
/// How far back the words before a number are read, in bytes.
const CONTEXT: usize = 24;

/// A finding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) kind: &'static str,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A run of digits in a number.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    start: usize,
    end: usize,
    /// Where its digits begin in the number's, from where that was first read.
    first: usize,
    count: usize,
    /// What separates it from the one before.
    separator: Separator,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Separator {
    #[default]
    None,
    Space,
    Dash,
    Dot,
    Slash,
    /// Parentheses, or several characters.
    Mixed,
}

/// Reads a text from its start, finding by finding.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Whether the text ends where it ends, or goes on later.
    last: bool,
    /// Whether a decision looked past the end of a text that goes on.
    short: bool,
    decided: usize,
    /// Where the last finding ended: what stands before is as good as redacted.
    after: usize,
    /// What was read last.
    number: Number,
    /// How many digits and words were looked at.
    #[cfg(test)]
    steps: std::cell::Cell<usize>,
}

/// What a byte may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    /// A digit, `+` or `(`: a number.
    Number,
    /// `@`
    At,
    /// `%` and `&`: an `@` as URLs and HTML spell it, perhaps.
    Spelled,
    /// `:` and `-`: pairs of digits.
    Pair,
    /// `.`: a hardware address in fours.
    Dot,
    /// Not ASCII: a wide digit or an `@`, perhaps.
    Wide,
}

const fn class(byte: u8) -> Class {
    match byte {
        b'0'..=b'9' | b'+' | b'(' => Class::Number,
        b'@' => Class::At,
        b'%' | b'&' => Class::Spelled,
        b':' | b'-' => Class::Pair,
        b'.' => Class::Dot,
        // Lead bytes of the digits that count: Arabic, Devanagari, full-width.
        0xd9 | 0xdb | 0xe0 | 0xef => Class::Wide,
        _ => Class::Plain,
    }
}

fn digit(character: char) -> Option<u8> {
    let code = u32::from(character);
    let zero = match character {
        '0'..='9' => 0x30,
        '\u{ff10}'..='\u{ff19}' => 0xff10,
        '\u{660}'..='\u{669}' => 0x660,
        '\u{6f0}'..='\u{6f9}' => 0x6f0,
        '\u{966}'..='\u{96f}' => 0x966,
        _ => return None,
    };
    u8::try_from(code.saturating_sub(zero)).ok()
}

/// Whether nothing is seen of `character`. It may stand anywhere in a number or an address.
const fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}'
    )
}

const fn is_dash(character: char) -> bool {
    matches!(
        character,
        '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ff0d}' | '\u{fe63}'
    )
}

const fn is_space(character: char) -> bool {
    matches!(
        character,
        ' ' | '\u{a0}' | '\u{2007}' | '\u{2009}' | '\u{202f}' | '\u{3000}'
    )
}

fn is_local(character: char) -> bool {
    matches!(
        character,
        '.' | '_' | '%' | '+' | '-' | '\'' | '!' | '#' | '$' | '^' | '~'
    ) || is_letter(character)
        || is_hidden(character)
}

/// Whether `character` is part of the letter before it: an accent that stands alone, the sign for no vowel.
const fn is_accent(character: char) -> bool {
    matches!(
        character,
        '\u{300}'..='\u{36f}'
            | '\u{591}'..='\u{5bd}'
            | '\u{64b}'..='\u{65f}'
            | '\u{93c}'
            | '\u{94d}'
            | '\u{9bc}'
            | '\u{9cd}'
            | '\u{a3c}'
            | '\u{a4d}'
            | '\u{abc}'
            | '\u{acd}'
            | '\u{b4d}'
            | '\u{bcd}'
            | '\u{c4d}'
            | '\u{ccd}'
            | '\u{d4d}'
            | '\u{dca}'
            | '\u{e47}'..='\u{e4e}'
            | '\u{1037}'
            | '\u{1039}'
            | '\u{103a}'
            | '\u{3099}'
            | '\u{309a}'
    )
}

/// A letter or digit as an address may have it: no raised or circled one.
fn is_letter(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || (!character.is_ascii() && is_accent(character))
        || (character.is_alphanumeric()
            && !matches!(
                character,
                'ª' | 'º' | '²' | '³' | '¹' | '\u{2070}'..='\u{209f}' | '\u{2460}'..='\u{24ff}'
            ))
}

/// Whether `character` is of a script that is written without spaces, or that glues its particles to foreign words:
/// there an address ends where the script changes.
const fn is_unspaced(character: char) -> bool {
    matches!(
        character,
        '\u{e00}'..='\u{eff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{3040}'..='\u{30ff}'
            | '\u{3400}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7af}'
            | '\u{20000}'..='\u{3ffff}'
    )
}

/// A number: its digits, and how they are grouped.
#[derive(Debug)]
struct Number {
    digits: [u8; MAX_DIGITS],
    groups: [Group; MAX_GROUPS],
    /// How many digits stood before the first of `digits` where it was first read.
    origin: usize,
    count: usize,
    plus: bool,
    paren: bool,
    /// A mark stands where the next group would, behind this separator.
    mark: Option<Separator>,
    /// Where reading ended, where it ended for the count of groups only: the number that begins with the next group goes
    /// on from there. Behind which separator.
    goes_on: Option<(usize, Separator)>,
}

/// Whether an `@` is spelled out somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelled {
    No,
    /// In so many bytes.
    At(usize),
    /// The text that goes on will say.
    Open,
}

/// Whether a mark begins somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    No,
    Yes,
    /// The text that goes on will say.
    Open,
}

impl Number {
    const fn new() -> Self {
        Self {
            digits: [0; MAX_DIGITS],
            groups: [Group {
                start: 0,
                end: 0,
                first: 0,
                count: 0,
                separator: Separator::None,
            }; MAX_GROUPS],
            origin: 0,
            count: 0,
            plus: false,
            paren: false,
            mark: None,
            goes_on: None,
        }
    }

    /// Makes this the number that begins with the second group at `start`, if it is known so far; says how many digits
    /// it has, and where and behind which separator it goes on.
    fn shift(&mut self, start: usize) -> Option<(usize, usize, Separator)> {
        let (at, separator) = self.goes_on.take()?;
        let [first, second, ..] = self.groups;
        if second.start != start || self.count != MAX_GROUPS || self.plus || self.paren {
            return None;
        }
        let total = self.digits(self.count).len();
        self.digits.copy_within(first.count..total, 0);
        self.groups.copy_within(1.., 0);
        self.count = self.count.saturating_sub(1);
        self.origin = self.origin.saturating_add(first.count);
        if let Some(group) = self.groups.first_mut() {
            group.separator = Separator::None;
        }
        Some((total.saturating_sub(first.count), at, separator))
    }

    fn groups(&self) -> &[Group] {
        self.groups.get(..self.count).unwrap_or(&[])
    }

    /// The digits of the first `groups` groups.
    fn digits(&self, groups: usize) -> &[u8] {
        let end = groups
            .checked_sub(1)
            .and_then(|at| self.groups.get(at))
            .map_or(0, |group| {
                group
                    .first
                    .saturating_add(group.count)
                    .saturating_sub(self.origin)
            });
        self.digits.get(..end).unwrap_or(&[])
    }

    fn counts(&self, groups: usize) -> impl Iterator<Item = usize> {
        self.groups().iter().take(groups).map(|group| group.count)
    }

    /// Whether the first `groups` groups are separated by `separator`.
    fn separated(&self, groups: usize, separator: Separator) -> bool {
        self.groups()
            .iter()
            .take(groups)
            .skip(1)
            .all(|group| group.separator == separator)
    }
}

impl<'a> Finder<'a> {
    pub(super) const fn new(text: &'a str, last: bool) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            last,
            short: false,
            decided: 0,
            after: 0,
            number: Number::new(),
            #[cfg(test)]
            steps: std::cell::Cell::new(0),
        }
    }

    /// Reads from `at`; what stands before is context.
    pub(super) const fn start_at(&mut self, at: usize, after: usize) {
        self.at = at;
        self.decided = at;
        self.after = after;
    }

    /// Where the last finding ended.
    pub(super) const fn after(&self) -> usize {
        self.after
    }

    /// Up to where everything is decided.
    pub(super) const fn decided(&self) -> usize {
        self.decided
    }

    /// The next finding that begins at `floor` or after it.
    pub(super) fn next_span(&mut self, floor: usize) -> Option<Found> {
        let floor = floor.max(self.decided);
        if self.short {
            return None;
        }
        while let Some(&byte) = self.bytes.get(self.at) {
            let start = self.at;
            let found = match class(byte) {
                Class::Plain => {
                    self.at = start.saturating_add(1);
                    continue;
                }
                Class::Number => self.number(floor),
                Class::At => self.email(floor, 1),
                Class::Spelled => match self.spelled(start) {
                    Spelled::No => None,
                    Spelled::At(width) => self.email(floor, width),
                    Spelled::Open => self.wait(start, floor),
                },
                Class::Pair => self.pair(floor, byte),
                Class::Dot => self.fours(floor),
                Class::Wide => match self.char_at(start) {
                    Some('\u{ff20}') => self.email(floor, 3),
                    Some('\u{ff0b}') => self.number(floor),
                    Some(character) if digit(character).is_some() => self.number(floor),
                    Some(character) => {
                        self.at = start.saturating_add(character.len_utf8());
                        continue;
                    }
                    None => {
                        self.at = start.saturating_add(1);
                        continue;
                    }
                },
            };
            if self.short {
                return None;
            }
            if let Some(found) = found {
                self.at = found.end;
                self.decided = found.end;
                self.after = found.end;
                return Some(found);
            }
            self.at = self.at.max(start.saturating_add(1));
        }
        self.decided = if self.last {
            self.text.len()
        } else {
            self.hold(self.text.len(), floor)
        };
        None
    }

    /// Ends here: what begins at `start` depends on what comes later.
    fn wait(&mut self, start: usize, floor: usize) -> Option<Found> {
        self.short = true;
        self.decided = self.hold(start, floor);
        None
    }

    /// Where the local part of an address begins that may end at `end`.
    fn hold(&self, end: usize, floor: usize) -> usize {
        self.local_start(end, floor)
    }

    fn local_start(&self, end: usize, floor: usize) -> usize {
        let mut start = end;
        let head = self.text.get(floor..end).unwrap_or("");
        for character in head.chars().rev() {
            let next = start.saturating_sub(character.len_utf8());
            if !is_local(character) || end.saturating_sub(next) > MAX_LOCAL {
                break;
            }
            start = next;
        }
        start
    }

    /// The same in a URL, where the name begins behind the last code of a sign that is in no name: `%3Cjane` is `<jane`.
    fn coded_start(&self, end: usize, floor: usize) -> usize {
        let start = self.local_start(end, floor);
        let local = self.text.get(start..end).unwrap_or("");
        let last = local.rmatch_indices('%').find_map(|(at, _)| {
            let after = at.saturating_add(3);
            let code = local.get(at.saturating_add(1)..after)?;
            let code = u8::from_str_radix(code, 16).ok()?;
            let named = code.is_ascii_alphanumeric() || code >= 0x80 || b"+-._~!#$'^%".contains(&code);
            (!named).then_some(after)
        });
        start.saturating_add(last.unwrap_or(0))
    }

    /// Counts, so that a test can say how much is looked at.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "only tests count"))]
    #[inline]
    fn step(&self) {
        #[cfg(test)]
        self.steps.set(self.steps.get().saturating_add(1));
    }

    fn char_at(&self, at: usize) -> Option<char> {
        match self.bytes.get(at) {
            Some(byte) if byte.is_ascii() => Some(char::from(*byte)),
            Some(_) => self.text.get(at..).and_then(|rest| rest.chars().next()),
            None => None,
        }
    }

    /// Whether what a redaction left begins at `at`: `[REDACTED:`, or `[` and another kind.
    fn mark_at(&self, at: usize) -> Mark {
        if self.bytes.get(at) != Some(&b'[') {
            return Mark::No;
        }
        let name = self.bytes.get(at.saturating_add(1)..).unwrap_or(&[]);
        let length = name
            .iter()
            .take(MAX_KIND)
            .take_while(|byte| byte.is_ascii_uppercase() || **byte == b'_')
            .count();
        match name.get(length) {
            Some(b':') if length > 0 => Mark::Yes,
            None if !self.last => Mark::Open,
            _ => Mark::No,
        }
    }

    /// Whether an `@` begins at `at` as URLs and HTML spell it.
    fn spelled(&self, at: usize) -> Spelled {
        let rest = self.bytes.get(at..).unwrap_or(&[]);
        for spelling in [&b"%40"[..], b"&#64;", b"&#x40;", b"&commat;"] {
            let head = rest.get(..spelling.len()).unwrap_or(rest);
            if head.len() == spelling.len() && head.eq_ignore_ascii_case(spelling) {
                return Spelled::At(spelling.len());
            }
            if !self.last
                && head.len() < spelling.len()
                && spelling
                    .get(..head.len())
                    .is_some_and(|begin| begin.eq_ignore_ascii_case(head))
            {
                return Spelled::Open;
            }
        }
        Spelled::No
    }

    fn char_before(&self, at: usize) -> Option<char> {
        if at == self.after && at > 0 {
            return Some(']');
        }
        match at.checked_sub(1).and_then(|before| self.bytes.get(before)) {
            Some(byte) if byte.is_ascii() => Some(char::from(*byte)),
            Some(_) => self.text.get(..at).and_then(|head| head.chars().next_back()),
            None => None,
        }
    }

    /// Whether the letter before `at` is of a line end or a tab as JSON and programs spell it.
    fn is_escape(&self, at: usize) -> bool {
        matches!(
            self.bytes.get(self.after.min(at)..at),
            Some([.., b'\\', b'n' | b'r' | b't'])
        )
    }

    /// Whether a number may begin at `at`: not in a word, and not in the middle of another number.
    fn begins(&self, at: usize) -> bool {
        let mut at = at;
        let mut before = self.char_before(at);
        for _ in 0..MAX_HIDDEN {
            match before {
                Some(character) if !character.is_ascii() && is_hidden(character) => {
                    at = at.saturating_sub(character.len_utf8());
                    before = self.char_before(at);
                }
                _ => break,
            }
        }
        match before {
            None => true,
            Some('n' | 'r' | 't') if self.is_escape(at) => true,
            // The first track of a card's magnetic stripe.
            Some('B')
                if self
                    .bytes
                    .get(self.after.min(at)..at)
                    .is_some_and(|head| head.ends_with(b"%B")) =>
            {
                true
            }
            Some(before) if before.is_ascii_alphanumeric() || before == '_' || digit(before).is_some() => {
                false
            }
            Some(before) if is_dash(before) || matches!(before, '.' | '/') => {
                let further = at.saturating_sub(before.len_utf8());
                !self
                    .char_before(further)
                    .is_some_and(|character| digit(character).is_some())
            }
            Some(_) => true,
        }
    }

    fn number(&mut self, floor: usize) -> Option<Found> {
        let start = self.at;
        let (mut plus, mut paren) = (false, false);
        let mut at = start;
        loop {
            match self.char_at(at) {
                Some('+') if !plus => plus = true,
                Some('\u{ff0b}') if !plus => {
                    plus = true;
                    at = at.saturating_add(2);
                }
                Some('(') if !paren => paren = true,
                None if !self.last => return self.wait(start, floor),
                _ => break,
            }
            at = at.saturating_add(1);
        }
        if !self.begins(start) {
            // In a word; but an IBAN begins with letters.
            if at == start {
                if let Some(found) = self.iban(floor) {
                    return Some(found);
                }
                if self.short {
                    return None;
                }
                while let Some(character) = self.char_at(at)
                    && digit(character).is_some()
                {
                    at = at.saturating_add(character.len_utf8());
                }
                self.at = at;
            }
            return None;
        }
        if !self.char_at(at).is_some_and(|next| digit(next).is_some()) {
            return None;
        }
        let known = if at == start {
            self.number.shift(start)
        } else {
            None
        };
        let (mut total, mut separator) = (0_usize, Separator::None);
        if let Some((digits, end, behind)) = known {
            (total, at, separator) = (digits, end, behind);
        } else {
            self.number.count = 0;
            self.number.origin = 0;
            self.number.plus = plus;
            self.number.paren = paren;
            self.number.goes_on = None;
        }
        self.number.mark = None;
        let mut end_short = false;
        'groups: while self.number.count < MAX_GROUPS {
            let group_start = at;
            let first = total;
            let mut group_end = at;
            let mut hidden = 0_u32;
            while let Some(character) = self.char_at(at) {
                if let Some(value) = digit(character) {
                    let Some(slot) = self.number.digits.get_mut(total) else {
                        break 'groups;
                    };
                    *slot = value;
                    total = total.saturating_add(1);
                    at = at.saturating_add(character.len_utf8());
                    group_end = at;
                    hidden = 0;
                    self.step();
                } else if !character.is_ascii()
                    && is_hidden(character)
                    && hidden < MAX_HIDDEN
                    && total > first
                {
                    at = at.saturating_add(character.len_utf8());
                    hidden = hidden.saturating_add(1);
                } else {
                    break;
                }
            }
            if group_end == group_start {
                break;
            }
            if let Some(slot) = self.number.groups.get_mut(self.number.count) {
                *slot = Group {
                    start: group_start,
                    end: group_end,
                    first: first.saturating_add(self.number.origin),
                    count: total.saturating_sub(first),
                    separator,
                };
            }
            self.number.count = self.number.count.saturating_add(1);
            // What separates this group from the next.
            let mut signs = 0_u32;
            separator = Separator::None;
            loop {
                let Some(character) = self.char_at(at) else {
                    end_short = !self.last;
                    break 'groups;
                };
                let kind = if character.is_ascii_digit() {
                    break;
                } else if is_space(character) {
                    Separator::Space
                } else if is_dash(character) {
                    Separator::Dash
                } else if !character.is_ascii() && is_hidden(character) && signs > 0 && hidden < MAX_HIDDEN {
                    hidden = hidden.saturating_add(1);
                    at = at.saturating_add(character.len_utf8());
                    continue;
                } else {
                    match character {
                        '.' => Separator::Dot,
                        '/' => Separator::Slash,
                        '(' | ')' => Separator::Mixed,
                        _ => break,
                    }
                };
                signs = signs.saturating_add(1);
                if signs > 3 {
                    break 'groups;
                }
                separator = if signs == 1 { kind } else { Separator::Mixed };
                at = at.saturating_add(character.len_utf8());
            }
            if self.char_at(at) == Some('[') {
                match self.mark_at(at) {
                    Mark::No => {}
                    Mark::Yes => self.number.mark = Some(separator),
                    Mark::Open => {
                        end_short = true;
                        break;
                    }
                }
            }
            if signs == 0 {
                break;
            }
            if self.number.count == MAX_GROUPS && self.number.mark.is_none() {
                self.number.goes_on = Some((at, separator));
            }
        }
        let end = self.number.groups().last().map_or(start, |group| group.end);
        let extends = !self.last && matches!(self.bytes.get(end..), Some([b'x' | b'X']));
        if end_short || extends || self.may_be_file(start) {
            return self.wait(start, floor);
        }
        if self.number.count == 0 {
            return None;
        }
        if let Some((kind, groups)) = self.judge(&self.number, start) {
            let end = self
                .number
                .groups()
                .get(groups.saturating_sub(1))
                .map_or(start, |group| group.end);
            // A parenthesis alone in front belongs to it only where the number needs it.
            let closes = self.text.get(start..end).is_some_and(|text| text.contains(')'));
            let from = if self.char_at(start) == Some('(') && !closes {
                start.saturating_add(1)
            } else {
                start
            };
            return Some(Found {
                kind,
                start: from,
                end,
            });
        }
        self.at = self.number.groups().first().map_or(start, |group| group.end);
        if self.number.plus || self.number.paren {
            self.at = start.saturating_add(1);
        }
        None
    }

    /// Whether a finding may end after so many groups.
    fn ends(&self, number: &Number, groups: usize) -> bool {
        let Some(group) = groups.checked_sub(1).and_then(|at| number.groups().get(at)) else {
            return false;
        };
        let next = number.groups().get(groups).map(|next| next.separator);
        if let Some(separator) = next.or(number.mark) {
            return matches!(separator, Separator::Space | Separator::Mixed | Separator::Slash)
                || self.char_at(group.end) == Some(' ');
        }
        !self.char_at(group.end).is_some_and(|next| {
            next.is_ascii_alphanumeric() || matches!(next, '_' | '@' | '%') || digit(next).is_some()
        })
    }

    /// Whether a number goes on with an extension, as in `415-555-2671x12`.
    fn has_extension(&self, number: &Number) -> bool {
        let end = number.groups().last().map_or(0, |group| group.end);
        number.mark.is_none()
            && matches!(self.bytes.get(end..), Some([b'x' | b'X', digit, ..]) if digit.is_ascii_digit())
    }

    /// Whether nothing but letters follows so many groups. Four groups say what they are without a gap after them.
    fn ends_in_word(&self, number: &Number, groups: usize) -> bool {
        number.count == groups
            && number.mark.is_none()
            && number.groups().last().is_some_and(|group| {
                self.char_at(group.end)
                    .is_some_and(|next| next.is_ascii_alphabetic())
            })
    }

    fn judge(&self, number: &Number, start: usize) -> Option<(&'static str, usize)> {
        if !number.plus && !number.paren && self.is_ipv4(number) {
            return Some(("IP_ADDRESS", 4));
        }
        if !number.plus && !number.paren {
            if self.is_ssn(number, start) {
                let groups = if number.groups().first().is_some_and(|group| group.count == 9) {
                    1
                } else {
                    3
                };
                return Some(("SSN", groups));
            }
            let most = number.count.min(5);
            let cards = number.digits(most).len() >= 13;
            for groups in (1..=most).rev().take_while(|_| cards) {
                if is_card(number, groups)
                    && (self.ends(number, groups) || (groups > 2 && self.ends_in_word(number, groups)))
                {
                    return Some(("CREDIT_CARD", groups));
                }
            }
        }
        // The longest number of which the form is one of a phone's.
        let dated = matches!(number.groups(), [year, month, day, ..] if year.count == 4 && month.count == 2 && day.count == 2 && month.separator != Separator::Space);
        if dated && !number.plus {
            return None;
        }
        let mut called = None;
        for groups in (1..=number.count.min(8)).rev() {
            let digits = number.digits(groups);
            if digits.len() < 7 {
                break;
            }
            if digits.len() > 15 {
                continue;
            }
            let extended = groups == number.count && self.has_extension(number);
            if !extended && !self.ends(number, groups) {
                continue;
            }
            let zoned = digits.first() == Some(&1) || digits.first() == Some(&7);
            if number.plus {
                // `+3.14159265358979`
                let decimal = groups == 2
                    && number.separated(2, Separator::Dot)
                    && number.counts(2).last().is_some_and(|count| count > 12);
                if decimal {
                    continue;
                }
                if digits.len() >= 8 && (!zoned || digits.len() == 11) && has_country(digits) {
                    return Some(("PHONE", groups));
                }
                continue;
            }
            let local = if number.counts(groups).eq([3, 3, 4]) {
                Some(digits)
            } else if digits.first() == Some(&1) && number.counts(groups).eq([1, 3, 3, 4]) {
                digits.get(1..)
            } else {
                None
            };
            let american = local.is_some_and(|local| {
                local.first().is_some_and(|&area| area >= 2)
                    && local.get(3).is_some_and(|&exchange| exchange >= 2)
            });
            if american
                && !number.separated(groups, Separator::Slash)
                && (number.paren || !number.separated(groups, Separator::Space))
            {
                return Some(("PHONE", groups));
            }
            let abroad = groups >= 2
                && digits.len() >= 11
                && digits.strip_prefix(&[0, 0]).is_some_and(|digits| {
                    has_country(digits) && (!matches!(digits, [1 | 7, ..]) || digits.len() == 11)
                })
                && self.starts_plainly(start);
            if abroad {
                return Some(("PHONE", groups));
            }
            if extended {
                continue;
            }
            let long = if groups == 1 { digits.len() >= 9 } else { true };
            let called = *called.get_or_insert_with(|| {
                self.said(
                    start,
                    &[
                        "phone",
                        "tel",
                        "mobile",
                        "mob",
                        "cell",
                        "fax",
                        "whatsapp",
                        "call",
                        "sms",
                        "dial",
                        "handy",
                        "mobil",
                        "rufnummer",
                        "celular",
                        "cellulare",
                        "tlf",
                        "手机",
                        "携帯",
                        "전화",
                        "telefon",
                        "téléphone",
                        "tél",
                        "telephone",
                        "телефон",
                        "тел",
                        "phone number",
                        "contact",
                        "móvil",
                        "teléfono",
                        "电话",
                        "電話",
                        "my number",
                        "text me",
                        "reach me",
                        "ph",
                        "puh",
                        "puhelin",
                        "gsm",
                        "telefoon",
                        "telefone",
                        "telefono",
                        "моб",
                        "휴대폰",
                        "연락처",
                    ],
                )
            });
            if called && long {
                return Some(("PHONE", groups));
            }
            // As below a letter: `T: 020 7946 0123`.
            if groups >= 2
                && digits.first() == Some(&0)
                && digits.len() >= 9
                && self.after_word(start, &["t:", "m:", "f:", "p:", "d:"])
            {
                return Some(("PHONE", groups));
            }
        }
        None
    }

    /// Whether no digits stand right before, behind a space.
    fn starts_plainly(&self, start: usize) -> bool {
        let head = self
            .text
            .get(start.saturating_sub(2).max(self.after)..start)
            .unwrap_or("");
        !head.chars().any(|character| digit(character).is_some())
    }

    /// Whether one of `words`, of ASCII and in lower case, stands right before `start`, with nothing but signs that
    /// are not of the words between, or one of a few short words.
    fn after_word(&self, start: usize, words: &[&str]) -> bool {
        const BETWEEN: [&[u8]; 4] = [b"is", b"no", b"number", b"to"];
        let from = start.saturating_sub(CONTEXT).max(self.after);
        let mut head = self.bytes.get(from..start).unwrap_or(&[]);
        let ends = |head: &[u8], word: &[u8]| {
            head.len()
                .checked_sub(word.len())
                .and_then(|at| head.split_at_checked(at))
                .is_some_and(|(front, tail)| {
                    // A word may begin with a capital: `FileVersion`.
                    let long = word.len() > 3 && tail.first().is_some_and(u8::is_ascii_uppercase);
                    tail.eq_ignore_ascii_case(word)
                        && (long || !front.last().is_some_and(u8::is_ascii_alphanumeric))
                })
        };
        for _ in 0..2 {
            loop {
                if words.iter().any(|word| ends(head, word.as_bytes())) {
                    return true;
                }
                match head.split_last() {
                    Some((last, rest))
                        if !last.is_ascii_alphanumeric() && last.is_ascii() && *last != b'\n' =>
                    {
                        head = rest;
                    }
                    _ => break,
                }
            }
            let Some(word) = BETWEEN.iter().find(|word| ends(head, word)) else {
                return false;
            };
            head = head.get(..head.len().saturating_sub(word.len())).unwrap_or(&[]);
        }
        false
    }

    /// Whether one of `words` stands before `start`, with nothing but a few signs and short words between.
    fn said(&self, start: usize, words: &[&str]) -> bool {
        // Behind another number nothing is said of this one.
        let near = self.bytes.get(..start).unwrap_or(&[]);
        let near = near
            .iter()
            .rev()
            .take(3)
            .find(|byte| !matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')'));
        if near.is_some_and(u8::is_ascii_digit) {
            return false;
        }
        let mut from = start.saturating_sub(CONTEXT).max(self.after);
        while !self.text.is_char_boundary(from) {
            from = from.saturating_add(1);
        }
        let head = self.text.get(from..start).unwrap_or("");
        // What stands before another number does not say what this is, nor does another line, or what was redacted.
        let head = head
            .rfind(|character: char| character.is_ascii_digit())
            .and_then(|digit| head.get(digit..))
            .unwrap_or(head);
        let head = head.rsplit(['\n', ']']).next().unwrap_or("");
        if !head
            .bytes()
            .any(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii())
        {
            return false;
        }
        let head = head.to_lowercase();
        // By their first two bytes, so that most places are passed over at once.
        let bit = |byte: Option<&u8>| byte.map_or(u64::MAX, |byte| 1 << (byte & 63));
        let (firsts, seconds) = words.iter().fold((0, 0), |(firsts, seconds), word| {
            let word = word.as_bytes();
            (firsts | bit(word.first()), seconds | bit(word.get(1)))
        });
        let bytes = head.as_bytes();
        bytes
            .iter()
            .enumerate()
            .filter(|&(at, byte)| {
                firsts & bit(Some(byte)) != 0 && seconds & bit(bytes.get(at.saturating_add(1))) != 0
            })
            .filter_map(|(at, _)| head.get(..at).zip(head.get(at..)))
            .any(|(front, tail)| {
                self.step();
                let before = front.chars().next_back();
                words.iter().any(|word| {
                    let Some(rest) = tail.strip_prefix(word) else {
                        return false;
                    };
                    let after = rest.chars().next();
                    let wide = !word.is_ascii();
                    // `sys_call` and `j.cell.2024` call nobody, `user_phone` is one.
                    let verb = (before == Some('_') || before == Some('.') && rest.starts_with('.'))
                        && matches!(*word, "call" | "dial" | "cell" | "contact" | "handy");
                    if verb {
                        return false;
                    }
                    (wide
                        || !before.is_some_and(char::is_alphanumeric)
                        || matches!(*word, "phone" | "version"))
                        && (wide || !after.is_some_and(char::is_alphabetic) || rest.starts_with("s "))
                        && !rest.chars().any(|c| c.is_ascii_digit())
                })
            })
    }

    fn is_ipv4(&self, number: &Number) -> bool {
        let Some(groups) = number.groups().get(..4) else {
            return false;
        };
        if groups
            .get(1)
            .is_none_or(|group| group.separator != Separator::Dot)
            || !number.separated(4, Separator::Dot)
        {
            return false;
        }
        let valid = groups.iter().all(|group| {
            let first = group.first.saturating_sub(number.origin);
            let digits = number
                .digits
                .get(first..first.saturating_add(group.count))
                .unwrap_or(&[]);
            let value = digits.iter().fold(0_u32, |value, &digit| {
                value.saturating_mul(10).saturating_add(u32::from(digit))
            });
            group.count <= 3 && value <= 255 && (group.count == 1 || digits.first() != Some(&0))
        });
        let start = groups.first().map_or(0, |group| group.start);
        let end = groups.last().map_or(0, |group| group.end);
        if !valid || self.text.get(start..end).is_none_or(|text| !text.is_ascii()) {
            return false;
        }
        let next = number.groups().get(4).map(|next| next.separator);
        match next.or(number.mark) {
            // From one address to another, or a version and what it is a build of.
            Some(Separator::Dash) if self.is_range(number) => {}
            Some(Separator::Dot | Separator::Dash | Separator::None) => return false,
            Some(_) => {}
            None => {
                if self
                    .char_at(end)
                    .is_some_and(|next| next.is_ascii_alphanumeric() || next == '_')
                {
                    return false;
                }
            }
        }
        // `foo>=1.2.3.4`
        let compared = self.bytes.get(..start).is_some_and(|head| {
            [&b">="[..], b"<=", b"~=", b"~>", b"~> ", b"^"]
                .iter()
                .any(|sign| head.ends_with(sign))
        });
        !compared
            && !self.after_word(
                start,
                &[
                    "version",
                    "versions",
                    "v",
                    "ver",
                    "release",
                    "rel",
                    "build",
                    "revision",
                    "rev",
                    "firmware",
                    "section",
                    "sec",
                    "chapter",
                    "clause",
                    "article",
                    "paragraph",
                    "annex",
                    "appendix",
                    "figure",
                    "fig",
                    "table",
                    "oid",
                    "assemblyversion",
                ],
            )
            && !self
                .text
                .get(..start)
                .is_some_and(|head| head.trim_end_matches(' ').ends_with('§'))
            && !self.is_product(start)
            && !self.is_file(start, end)
    }

    /// Whether the text that goes on will say if what was read last is of the name of a file.
    fn may_be_file(&self, start: usize) -> bool {
        if self.last || self.number.count != 4 || !self.is_in_name(start) {
            return false;
        }
        let end = self.number.groups().last().map_or(start, |group| group.end);
        let rest = self.bytes.get(end..).and_then(|rest| rest.strip_prefix(b"."));
        rest.is_some_and(|rest| rest.len() < 6 && rest.iter().all(u8::is_ascii_alphanumeric))
    }

    /// Whether a word and a dash stand right before `start`.
    fn is_in_name(&self, start: usize) -> bool {
        matches!(self.char_before(start), Some('-' | '_'))
            && self
                .char_before(start.saturating_sub(1))
                .is_some_and(|before| before.is_ascii_alphanumeric())
    }

    /// Whether this is the version in the name of a file: `app-1.2.3.4.jar`.
    fn is_file(&self, start: usize, end: usize) -> bool {
        const ENDS: [&[u8]; 24] = [
            b"7z", b"apk", b"bz2", b"crate", b"deb", b"dll", b"dmg", b"exe", b"gem", b"gz", b"jar", b"msi",
            b"nupkg", b"pkg", b"rpm", b"so", b"tar", b"tgz", b"vsix", b"war", b"whl", b"xz", b"zip", b"zst",
        ];
        let Some(rest) = self.bytes.get(end..).and_then(|rest| rest.strip_prefix(b".")) else {
            return false;
        };
        self.is_in_name(start)
            && ENDS.iter().any(|ending| {
                rest.strip_prefix(*ending)
                    .is_some_and(|after| !after.first().is_some_and(u8::is_ascii_alphanumeric))
            })
    }

    /// Whether the four groups after the first four have the form of an address, too.
    fn is_range(&self, number: &Number) -> bool {
        let rest = number.groups().get(4..8).unwrap_or(&[]);
        rest.len() == 4
            && rest.iter().all(|group| group.count <= 3)
            && rest.iter().skip(1).all(|group| group.separator == Separator::Dot)
            && self
                .text
                .get(rest.first().map_or(0, |group| group.start)..)
                .is_some_and(|text| text.starts_with(|character: char| character.is_ascii_digit()))
    }

    /// Whether the name of a program stands before `start`, as in `nginx/1.25.3.1`, or of a library, as in
    /// `libx.so.1.2.3.4`. Another word and a slash may be a host, as Java writes it: `db/10.0.0.7`.
    fn is_product(&self, start: usize) -> bool {
        const PRODUCTS: [&str; 22] = [
            "apache",
            "chrome",
            "chromium",
            "crios",
            "curl",
            "edg",
            "edga",
            "edge",
            "edgios",
            "electron",
            "firefox",
            "headlesschrome",
            "iis",
            "nginx",
            "openssl",
            "opr",
            "php",
            "safari",
            "samsungbrowser",
            "version",
            "vivaldi",
            "yabrowser",
        ];
        let from = start.saturating_sub(CONTEXT).max(self.after);
        let head = self.bytes.get(from..start).unwrap_or(&[]);
        if head.ends_with(b".so.") {
            return true;
        }
        let Some(head) = head.strip_suffix(b"/") else {
            return false;
        };
        let letters = head
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_alphabetic())
            .count();
        let word = head.get(head.len().saturating_sub(letters)..).unwrap_or(&[]);
        PRODUCTS
            .iter()
            .any(|product| product.as_bytes().eq_ignore_ascii_case(word))
    }

    fn is_ssn(&self, number: &Number, start: usize) -> bool {
        let counts: [usize; 3] = [0, 1, 2].map(|at| number.groups().get(at).map_or(0, |group| group.count));
        let (digits, groups) = match counts {
            [3, 2, 4] => (number.digits(3), 3),
            [9, _, _] => (number.digits(1), 1),
            _ => return false,
        };
        let value = |from: usize, to: usize| {
            digits
                .get(from..to)
                .unwrap_or(&[])
                .iter()
                .fold(0_u32, |value, &digit| {
                    value.saturating_mul(10).saturating_add(u32::from(digit))
                })
        };
        let (area, middle, serial) = (value(0, 3), value(3, 5), value(5, 9));
        if area == 0 || area == 666 || area >= 900 || middle == 0 || serial == 0 || !self.ends(number, groups)
        {
            return false;
        }
        (groups == 3 && number.separated(3, Separator::Dash))
            || ((groups == 1 || number.separated(3, Separator::Space) || number.separated(3, Separator::Dot))
                && self.said(
                    start,
                    &[
                        "ssn",
                        "social security",
                        "social security number",
                        "social_security",
                        "social_security_number",
                        "social-security",
                        "social-security-number",
                        "soc sec",
                    ],
                ))
    }

    fn iban(&mut self, floor: usize) -> Option<Found> {
        let at = self.at;
        let start = at.checked_sub(2).filter(|&start| start >= floor)?;
        let &[first, second] = self.bytes.get(start..at)? else {
            return None;
        };
        if !first.is_ascii_alphabetic() || !second.is_ascii_alphabetic() {
            return None;
        }
        if !self.is_escape(start)
            && self
                .char_before(start)
                .is_some_and(|before| before.is_ascii_alphanumeric() || before == '_')
        {
            return None;
        }
        let country = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
        let length = iban_length(country)?;
        let mut rest = 0_u32;
        let mut read = 0_usize;
        let mut at = start;
        let mut end = start;
        let mut head = [0_u8; 4];
        let feed = |rest: u32, byte: u8| -> u32 {
            let value = match byte {
                b'0'..=b'9' => u32::from(byte.saturating_sub(b'0')),
                _ => u32::from(byte.to_ascii_uppercase().saturating_sub(b'A')).saturating_add(10),
            };
            let scaled = if value >= 10 {
                rest.saturating_mul(100)
            } else {
                rest.saturating_mul(10)
            };
            scaled.saturating_add(value).checked_rem(97).unwrap_or(0)
        };
        let mut gap = false;
        let mut hidden = 0_u32;
        while read < length {
            let Some(character) = self.char_at(at) else {
                if !self.last {
                    return self.wait(start, floor);
                }
                return None;
            };
            at = at.saturating_add(character.len_utf8());
            if (is_space(character) || is_dash(character)) && !gap && read >= 2 {
                gap = true;
                continue;
            }
            if !character.is_ascii() && is_hidden(character) && hidden < MAX_HIDDEN {
                hidden = hidden.saturating_add(1);
                continue;
            }
            let Some(byte) = u8::try_from(character).ok().filter(u8::is_ascii_alphanumeric) else {
                return None;
            };
            gap = false;
            hidden = 0;
            match head.get_mut(read) {
                Some(slot) => *slot = byte,
                None => rest = feed(rest, byte),
            }
            read = read.saturating_add(1);
            end = at;
        }
        let check = head.iter().fold(rest, |rest, &byte| feed(rest, byte));
        if check != 1 || !head.iter().skip(2).all(u8::is_ascii_digit) {
            return None;
        }
        match self.char_at(end) {
            None if !self.last => self.wait(start, floor),
            Some('[') if self.mark_at(end) == Mark::Open => self.wait(start, floor),
            Some('[') if self.mark_at(end) == Mark::Yes => None,
            Some(next) if next.is_ascii_alphanumeric() || next == '_' => None,
            _ => Some(Found {
                kind: "IBAN",
                start,
                end,
            }),
        }
    }

    fn email(&mut self, floor: usize, width: usize) -> Option<Found> {
        let sign = self.at;
        let mut at = sign.saturating_add(width);
        let limit = at.saturating_add(MAX_DOMAIN);
        let domain_start = at;
        while let Some(character) = self.char_at(at) {
            if at >= limit
                || !(is_letter(character)
                    || matches!(character, '.' | '-' | '\u{ff0e}')
                    || is_hidden(character))
            {
                break;
            }
            at = at.saturating_add(character.len_utf8());
        }
        let goes_on = at >= self.bytes.len() && !self.last && at < limit;
        if !goes_on && self.mark_at(at) != Mark::Open {
            // Most signs are of something else, which has no dot behind it.
            let domain = self.text.get(domain_start..at).unwrap_or("");
            if !domain.contains(['.', '\u{ff0e}']) {
                return None;
            }
        }
        // Where there is nothing before the sign, nothing after it matters.
        let mut start = if width > 1 {
            self.coded_start(sign, floor)
        } else {
            self.local_start(sign, floor)
        };
        let local = self.text.get(start..sign).unwrap_or("");
        let trimmed =
            local.trim_start_matches(|character| SIGNS.contains(&character) || is_hidden(character));
        start = sign.saturating_sub(trimmed.len());
        if trimmed.is_empty() || trimmed.ends_with('.') {
            return None;
        }
        if goes_on {
            return self.wait(start.min(sign.saturating_sub(local.len())), floor);
        }
        let mut domain = self.text.get(domain_start..at)?;
        match self.mark_at(at) {
            Mark::No => {}
            Mark::Open => return self.wait(start.min(sign.saturating_sub(local.len())), floor),
            Mark::Yes if trimmed == "git" => return None,
            // The mark hides the rest of the last label.
            Mark::Yes => domain = domain.rsplit_once('.')?.0,
        }
        // Endings of files, and of units of systemd (`getty@tty1.service`), that are no domain.
        const FILES: [&str; 38] = [
            "avif",
            "bak",
            "bmp",
            "cfg",
            "conf",
            "csv",
            "dll",
            "exe",
            "ini",
            "jsx",
            "lock",
            "log",
            "mount",
            "path",
            "pdf",
            "scss",
            "sql",
            "tmp",
            "toml",
            "tsx",
            "txt",
            "png",
            "jpg",
            "jpeg",
            "gif",
            "svg",
            "webp",
            "js",
            "css",
            "ts",
            "html",
            "ico",
            "json",
            "service",
            "socket",
            "timer",
            "slice",
            "automount",
        ];
        const DOTS: [char; 2] = ['.', '\u{ff0e}'];
        loop {
            domain = domain.trim_end_matches(|character| {
                DOTS.contains(&character) || character == '-' || is_hidden(character)
            });
            let (rest, mut last) = domain.rsplit_once(DOTS)?;
            let whole = last;
            let unspaced = last.starts_with(is_unspaced);
            if let Some(turn) = last.find(|character| is_unspaced(character) != unspaced) {
                last = last.get(..turn)?;
                let cut = domain.len().saturating_sub(whole.len()).saturating_add(turn);
                domain = domain.get(..cut)?;
            }
            let top = last.starts_with("xn--")
                || (last.chars().filter(|character| !is_hidden(*character)).count() >= 2
                    && last.chars().all(|character| {
                        character.is_alphabetic() || is_hidden(character) || is_accent(character)
                    })
                    && !FILES.contains(&last));
            // `pkg@1.2.3.tgz` is a version, `logo@2x.png` a picture for fine screens.
            let number = rest.strip_suffix('x').unwrap_or(rest);
            let version = !number.is_empty()
                && (rest.contains('.') || rest.len() != number.len())
                && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            if top
                && !version
                && !rest.is_empty()
                && !rest.starts_with(['.', '-', '\u{ff0e}'])
                && !domain.contains("..")
            {
                break;
            }
            domain = rest;
        }
        let end = domain_start.saturating_add(domain.len());
        if !domain.contains(is_unspaced)
            && !trimmed.ends_with(is_unspaced)
            && let Some((turn, character)) = trimmed
                .char_indices()
                .rfind(|&(_, character)| is_unspaced(character))
        {
            let name = trimmed.get(turn.saturating_add(character.len_utf8())..)?;
            let name =
                name.trim_start_matches(|character| SIGNS.contains(&character) || is_hidden(character));
            if !name.is_empty() {
                start = sign.saturating_sub(name.len());
            }
        }
        // `git@host:path` is an address of a repository.
        if trimmed == "git" && matches!(self.char_at(end), Some(':' | '/')) {
            return None;
        }
        Some(Found {
            kind: "EMAIL",
            start,
            end,
        })
    }

    /// A MAC address in three groups of four digits, by its first dot.
    fn fours(&mut self, floor: usize) -> Option<Found> {
        let dot = self.at;
        let start = dot.checked_sub(4).filter(|&start| start >= floor)?;
        let head = self.bytes.get(start..dot)?;
        if !head.iter().all(u8::is_ascii_hexdigit)
            || self
                .char_before(start)
                .is_some_and(|before| is_letter(before) || matches!(before, '_' | '.' | ':' | '-' | '@'))
        {
            return None;
        }
        let tail = self.bytes.get(dot..).unwrap_or(&[]);
        let tail = tail.get(..10).unwrap_or(tail);
        let fits = tail.iter().enumerate().all(|(at, byte)| {
            if at == 0 || at == 5 {
                *byte == b'.'
            } else {
                byte.is_ascii_hexdigit()
            }
        });
        if !fits {
            return None;
        }
        let end = start.saturating_add(14);
        match self.char_at(end) {
            None if !self.last => return self.wait(start, floor),
            None if tail.len() < 10 => return None,
            Some('[') if self.mark_at(end) == Mark::Open => return self.wait(start, floor),
            Some('[') if self.mark_at(end) == Mark::Yes => return None,
            Some(next) if is_letter(next) || matches!(next, '_' | '-' | ':' | '@') => return None,
            Some('.') => match self.char_at(end.saturating_add(1)) {
                None if !self.last => return self.wait(start, floor),
                Some('[') if self.mark_at(end.saturating_add(1)) == Mark::Open => {
                    return self.wait(start, floor);
                }
                Some('[') if self.mark_at(end.saturating_add(1)) == Mark::Yes => return None,
                Some(next) if is_letter(next) => return None,
                _ => {}
            },
            _ => {}
        }
        let token = self.bytes.get(start..end)?;
        let digits = token.iter().filter(|byte| byte.is_ascii_digit()).count();
        let mixed = digits > 0 && digits < 12;
        (mixed || (digits == 12 && self.said(start, &["mac", "arp", "hwaddr", "ether", "lladdr"]))).then_some(
            Found {
                kind: "MAC_ADDRESS",
                start,
                end,
            },
        )
    }

    /// A MAC address by its first separator; an IPv6 address by its first colon.
    fn pair(&mut self, floor: usize, separator: u8) -> Option<Found> {
        let sign = self.at;
        let hex = |at: usize| self.bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        let word = |character: char| character.is_alphanumeric() || matches!(character, '_' | ':' | '-');
        // Two hexadecimal digits, and nothing before them.
        if let Some(start) = sign.checked_sub(2).filter(|&start| start >= floor)
            && hex(start)
            && hex(start.saturating_add(1))
            && !self.char_before(start).is_some_and(word)
        {
            let mut pairs = 1_u32;
            let mut at = sign;
            while pairs < 6
                && self.bytes.get(at) == Some(&separator)
                && hex(at.saturating_add(1))
                && hex(at.saturating_add(2))
            {
                pairs = pairs.saturating_add(1);
                at = at.saturating_add(3);
            }
            if pairs == 6 {
                match self.char_at(at) {
                    None if !self.last => return self.wait(start, floor),
                    Some('[') if self.mark_at(at) == Mark::Open => return self.wait(start, floor),
                    Some('[') if self.mark_at(at) == Mark::Yes => {}
                    Some(next) if word(next) => {}
                    _ => {
                        return Some(Found {
                            kind: "MAC_ADDRESS",
                            start,
                            end: at,
                        });
                    }
                }
            } else if !self.last && at.saturating_add(3) > self.bytes.len() {
                return self.wait(start, floor);
            }
        }
        if separator != b':' {
            if !self.last && sign.saturating_add(1) == self.bytes.len() {
                return self.wait(sign, floor);
            }
            return None;
        }
        let mut start = sign;
        while start > floor && sign.saturating_sub(start) < 5 && hex(start.saturating_sub(1)) {
            start = start.saturating_sub(1);
        }
        // `addr:2001:db8::1` has a name in front, of which no letter is a digit of an address.
        let named = matches!(
            self.bytes.get(..start),
            Some([.., b'g'..=b'z' | b'G'..=b'Z', b':'])
        );
        if !named
            && self
                .char_before(start)
                .is_some_and(|before| before.is_alphanumeric() || matches!(before, '_' | ':' | '.'))
        {
            return None;
        }
        let mut end = sign;
        while let Some(&byte) = self.bytes.get(end)
            && end.saturating_sub(start) < 46
            && (byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        {
            end = end.saturating_add(1);
        }
        if end >= self.bytes.len() && !self.last {
            return self.wait(start, floor);
        }
        let token = self.text.get(start..end)?;
        if self
            .char_at(end)
            .is_some_and(|next| next.is_alphanumeric() || next == '_')
        {
            return None;
        }
        // What follows may be what was redacted from the middle of a longer word.
        if self.char_at(end) == Some('[') {
            return None;
        }
        let mut token = token.trim_end_matches('.');
        if token.ends_with(':') && !token.ends_with("::") {
            token = token.trim_end_matches(':');
        }
        // A prefix alone is an address where its length says so.
        if token.ends_with("::") && self.char_at(start.saturating_add(token.len())) != Some('/') {
            return None;
        }
        let colons = token.bytes().filter(|&byte| byte == b':').count();
        // `a::b1` is a path in a program: what is left out of an address stands behind a prefix of some length.
        let first = token.split(':').next().unwrap_or("");
        let short = matches!(first.len(), 1 | 2) && first != "64";
        if token.contains("::") && !first.is_empty() && (short || colons == 2 && !is_assigned(first)) {
            return None;
        }
        // Eight pairs name a port of a storage network; an address leaves zeros out.
        if colons == 7 && token.split(':').all(|group| group.len() == 2) {
            return None;
        }
        if colons < 2
            || !token.bytes().any(|byte| byte.is_ascii_digit())
            || token.parse::<Ipv6Addr>().is_err()
        {
            return None;
        }
        Some(Found {
            kind: "IP_ADDRESS",
            start,
            end: start.saturating_add(token.len()),
        })
    }
}

/// Whether a group of hexadecimal digits begins addresses that are in use.
///
/// # Source
/// IANA IPv6 address space.
fn is_assigned(first: &str) -> bool {
    let value = u32::from_str_radix(first, 16).unwrap_or(0);
    matches!(value, 0x64 | 0x100 | 0x2000..=0x3fff | 0xfc00..=0xfdff | 0xfe80..=0xfebf | 0xff00..)
}

/// Whether a number begins with the code of a country.
///
/// # Source
/// ITU-T E.164 assigned country codes.
const fn has_country(digits: &[u8]) -> bool {
    matches!(
        digits,
        [1 | 7, ..]
            | [2, 0 | 7, ..]
            | [2, 1..=6, _, ..]
            | [2, 9, 0 | 1 | 7..=9, ..]
            | [3, 0..=9, ..]
            | [4, 0 | 1 | 3..=9, ..]
            | [4, 2, 0 | 1 | 3, ..]
            | [5 | 6, _, ..]
            | [8, 0, 0 | 8, ..]
            | [8, 1 | 2 | 4 | 6, ..]
            | [8, 5 | 7 | 8, _, ..]
            | [9, 0..=8, ..]
            | [9, 9, 2..=6 | 8, ..]
    )
}

/// Whether the first `groups` groups are the number of a card: grouped as cards are, of an issuer, with the right
/// check digit.
fn is_card(number: &Number, groups: usize) -> bool {
    let digits = number.digits(groups);
    let length = digits.len();
    if !(13..=19).contains(&length) {
        return false;
    }
    if groups > 1 {
        let spaced = number.separated(groups, Separator::Space)
            || number.separated(groups, Separator::Dash)
            || number.separated(groups, Separator::Dot);
        // Fours and a rest, or four, six and a rest.
        let fours = number
            .counts(groups)
            .enumerate()
            .all(|(at, count)| count == 4 || (at.saturating_add(1) == groups && (1..=4).contains(&count)));
        let six = number.counts(groups).eq([4, 6, 4]) || number.counts(groups).eq([4, 6, 5]);
        if !spaced || !(fours || six) {
            return false;
        }
    }
    let lead = |count: usize| {
        digits.iter().take(count).fold(0_u32, |value, &digit| {
            value.saturating_mul(10).saturating_add(u32::from(digit))
        })
    };
    let issued = match length {
        13 => lead(1) == 4,
        14 => matches!(lead(2), 36 | 38 | 39) || (300..=305).contains(&lead(3)),
        15 => matches!(lead(2), 34 | 37),
        16 => {
            lead(1) == 4
                || (51..=55).contains(&lead(2))
                || (2221..=2720).contains(&lead(4))
                || matches!(lead(2), 62 | 65)
                || lead(4) == 6011
                || (2200..=2204).contains(&lead(4))
                || (644..=649).contains(&lead(3))
                || (3528..=3589).contains(&lead(4))
                || matches!(lead(2), 50 | 56..=58 | 63 | 67)
        }
        // Longer ones are ids of something else more often than cards, unless they are grouped as one.
        17..=19 => {
            (groups > 1 && lead(1) == 4)
                || lead(2) == 62
                || (groups > 1 && matches!(lead(2), 50 | 56..=58 | 63 | 67))
        }
        _ => false,
    };
    issued && luhn(digits)
}

/// The check of ISO/IEC 7812.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, &digit)| {
            let digit = u32::from(digit);
            if at & 1 == 0 {
                digit
            } else if digit > 4 {
                digit.saturating_mul(2).saturating_sub(9)
            } else {
                digit.saturating_mul(2)
            }
        })
        .sum();
    sum.checked_rem(10) == Some(0) && digits.iter().any(|&digit| digit != 0)
}

/// How long the IBANs of a country are.
///
/// # Source
/// The IBAN registry of SWIFT, release 99.
const fn iban_length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FO" | b"GL" | b"NL" | b"SD" | b"FK" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"XK" | b"MN" => 20,
        b"CH" | b"CR" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"TL" | b"OM" | b"SO" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HN" | b"HU" | b"LB" | b"NI" | b"PL" | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::Finder;

    #[test]
    fn what_is_looked_at_grows_with_the_text_and_not_faster() {
        for piece in [
            "1 ",
            "12 ",
            "123 ",
            "1234 ",
            "12345 ",
            "1.2.3.4-",
            "a 1234567 ",
            "+",
            "1+",
            "(1 ",
            "1 - ",
            "１ ",
        ] {
            let text = piece.repeat(4096);
            let mut finder = Finder::new(&text, true);
            while finder.next_span(0).is_some() {}
            let steps = finder.steps.get();
            assert!(steps <= text.len().saturating_mul(8), "{piece:?}: {steps} steps");
        }
    }
}
