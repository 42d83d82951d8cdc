// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package identity // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"

import (
	"bytes"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// redacted stands where a credential stood, as semantic conventions have it for URLs.
const redacted = "REDACTED"

// secretWords make an option, variable or header name that of a credential when they are a part of
// it, whatever its spelling: --db-password, API_KEY=, X-Auth-Token:. What they hide for no reason,
// such as --tokenizer-path=x, is the price.
var secretWords = []string{
	"password", "passwd", "pwd", "passphrase", "secret", "token", "credential",
	"apikey", "accesskey", "accountkey", "privatekey", "signature", "authorization", "cookie",
}

// pairOptions are those of curl, wget, skopeo and others before user:password.
var pairOptions = []string{"-u", "-U", "--user", "--proxy-user", "--creds", "--src-creds", "--dest-creds"}

// splitArguments takes apart what the kernel keeps as one piece. Text that is no UTF-8 is made so.
func splitArguments(raw []byte) []string {
	parts := bytes.Split(bytes.TrimSuffix(raw, []byte{0}), []byte{0})
	arguments := make([]string, len(parts))
	for i, part := range parts {
		arguments[i] = strings.ToValidUTF8(string(part), "�")
	}
	return arguments
}

// Redact takes credentials out of a command line, in place: in URLs (scheme://user:password@host),
// in values of options, variables, headers and parameters whose names say so (--token=x, --token x,
// PGPASSWORD=x, -H "Authorization: x", ?api_key=x), also within a longer argument (sh -c), and in
// user:password pairs after -u, --user and their like. It hides too much rather than too little: all
// that follows the name within the argument.
//
// It knows no program's own options: a password right behind a letter (mysql -pSECRET, redis-cli -a
// SECRET) and one that is told by its place alone (htpasswd -b file user SECRET) stay.
func Redact(arguments []string) []string {
	hideNext := false
	hidePair := false
	for i, argument := range arguments {
		switch {
		case hideNext && !isOption(argument):
			arguments[i] = redacted
		case hidePair && !isOption(argument):
			arguments[i] = redactURLs(redactValue(redactPair(argument)))
		default:
			arguments[i] = redactURLs(redactAttachedPair(redactValue(argument)))
		}
		hideNext = strings.HasPrefix(argument, "-") && !strings.ContainsAny(argument, "=: ") && namesSecret(argument)
		hidePair = isPairOption(argument)
	}
	return arguments
}

// isPairOption says whether user:password comes next. Several letters may share a dash: curl -sSu.
func isPairOption(argument string) bool {
	if slices.Contains(pairOptions, argument) {
		return true
	}
	letters, ok := strings.CutPrefix(argument, "-")
	return ok && len(letters) <= 6 && strings.HasSuffix(letters, "u") && !strings.ContainsFunc(letters, isNoLetter)
}

func isNoLetter(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }

// redactCutOff hides the end of a last argument that was cut off where it may be a URL's password:
// the @ that would tell is missing.
func redactCutOff(argument string) string {
	scheme := strings.LastIndex(argument, "://")
	if scheme < 0 {
		return argument
	}
	start := scheme + len("://")
	if rest := argument[start:]; strings.Contains(rest, "@") || !strings.Contains(rest, ":") {
		return argument
	}
	return argument[:start] + redacted
}

// isOption tells an option from a value that happens to begin with a dash.
func isOption(argument string) bool {
	return strings.HasPrefix(argument, "--") || strings.HasPrefix(argument, "-") && len(argument) == 2
}

// redactValue hides what follows the first name that is a credential's. A name ends at = or :, an
// option's also at a blank.
func redactValue(argument string) string {
	start := 0
	for i := range len(argument) {
		if !strings.ContainsRune("=: \t\n?&;,/(|", rune(argument[i])) {
			continue
		}
		if endsSecretName(argument[start:i], argument[i:]) {
			return argument[:i+1] + redacted
		}
		start = i + 1
	}
	return argument
}

// endsSecretName says whether a credential is what comes after the first byte of rest.
func endsSecretName(name, rest string) bool {
	if len(rest) == 1 || strings.HasPrefix(rest, "://") {
		return false
	}
	switch rest[0] {
	case '=':
		return namesSecret(name)
	case ':': // else it is a URL's host, behind the @
		return namesSecret(name) && !strings.Contains(name, "@")
	case ' ', '\t', '\n':
		return strings.HasPrefix(name, "-") && namesSecret(name) || isPairOption(name) && startsWithPair(rest)
	default:
		return false
	}
}

func startsWithPair(text string) bool {
	words := strings.Fields(text)
	return len(words) > 0 && strings.Contains(words[0], ":")
}

// namesSecret compares without case, dashes and underscores.
func namesSecret(name string) bool {
	plain := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' {
			return -1
		}
		return r
	}, strings.ToLower(name))
	return strings.HasSuffix(plain, "pass") || // not bypass-cache, passive
		slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(plain, word) })
}

func redactPair(pair string) string {
	user, _, ok := strings.Cut(pair, ":")
	if !ok {
		return pair
	}
	return user + ":" + redacted
}

// redactAttachedPair is for --user=user:password and -uuser:password, but not for -url=x.
func redactAttachedPair(argument string) string {
	for _, option := range pairOptions {
		pair, ok := strings.CutPrefix(argument, option)
		if !ok {
			continue
		}
		if value, ok := strings.CutPrefix(pair, "="); ok {
			return option + "=" + redactPair(value)
		}
		if user, _, _ := strings.Cut(pair, ":"); len(option) == len("-u") && !strings.ContainsAny(user, "=/") {
			return option + redactPair(pair)
		}
	}
	return argument
}

// redactURLs hides user and password of every URL in the text.
func redactURLs(text string) string {
	scheme := strings.Index(text, "://")
	if scheme < 0 {
		return text
	}
	start := scheme + len("://")
	end := len(text)
	if n := strings.IndexAny(text[start:], "/?#\"' "); n >= 0 {
		end = start + n
	}
	if strings.HasSuffix(text[start:end], ":") && strings.HasPrefix(text[end:], "//") {
		end-- // a list: the next URL's scheme was taken for a part of this authority
	}
	if lacksPort(text[start:end]) {
		end = endOfPassword(text, start, end)
	}
	authority := text[start:end]
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		authority = redacted + ":" + redacted + authority[at:]
	}
	return text[:start] + authority + redactURLs(text[end:])
}

// lacksPort says that what comes after the colon is no port, so that it must be a password, with a
// character in it that should have been escaped.
func lacksPort(authority string) bool {
	_, port, ok := strings.Cut(authority, ":")
	return ok && !strings.ContainsAny(authority, "@[") && strings.ContainsFunc(port, func(r rune) bool { return r < '0' || r > '9' })
}

// endOfPassword is behind the @ that comes next, or end if none does before the text's next word.
func endOfPassword(text string, start, end int) int {
	word := text[start:]
	if n := strings.IndexAny(word, "\"' ,"); n >= 0 {
		word = word[:n]
	}
	if at := strings.IndexByte(word, '@'); at >= 0 {
		return start + at + 1
	}
	return end
}

// NamesSecret says whether the name of a header or parameter is that of a credential.
func NamesSecret(name string) bool { return namesSecret(name) }

// RedactText takes credentials out of a text such as a header's value, as Redact does.
func RedactText(text string) string { return redactURLs(redactValue(text)) }

// authorization is what HTTP clients show of a header. In small letters "basic" is a word like others, but for
// where it follows the header's name.
var authorization = regexp.MustCompile(`(\b(?:(?i:bearer)|Basic|(?i:authorization["']?\s*[:=]\s*["']?basic))\s+)[^\s"']+`)

// RedactMessage takes credentials out of an error's text: in URLs, what follows the = behind a name that is a
// credential's, up to the next blank or within quotes, and what follows Bearer and Basic. What follows a colon
// stays, unlike with RedactText: it is the reason ("open token: no such file"). Of a text that was cut off, the end
// may be a URL's password, and goes, too.
func RedactMessage(text string, isCutOff bool) string {
	text = authorization.ReplaceAllString(redactAssignments(text), "${1}"+redacted)
	if isCutOff {
		lastWord := strings.LastIndexAny(text, blanks) + 1
		text = text[:lastWord] + redactCutOff(text[lastWord:])
	}
	return redactURLs(text)
}

const blanks = " \t\r\n"

func redactAssignments(text string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "=")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		out.WriteByte('=')
		name := strings.TrimRight(before, `"'`)
		name = name[strings.LastIndexAny(name, blanks+"?&;,:/(|\"'")+1:]
		if value := valueAt(after); value != "" && namesSecret(name) {
			out.WriteString(redacted)
			after = after[len(value):]
		}
		text = after
	}
}

// valueAt the beginning of a text: what is in quotes, or one word.
func valueAt(text string) string {
	if text != "" && (text[0] == '"' || text[0] == '\'') {
		if end := strings.IndexByte(text[1:], text[0]); end >= 0 {
			return text[:end+2]
		}
	}
	if end := strings.IndexAny(text, blanks); end >= 0 {
		return text[:end]
	}
	return text
}

// RedactQuery hides the values of a query's parameters whose names say that they are credentials,
// among them those that the semantic conventions list for url.full, and user and password in URLs; also where they are
// percent-encoded, and in a query within a parameter. isCutOff says that its end is missing.
func RedactQuery(query string, isCutOff bool) string {
	query = redactURLs(redactParameters(query, maxNested))
	if !isCutOff {
		return query
	}
	last := strings.LastIndexAny(query, "&;=") + 1
	return query[:last] + redactDecoded(query[last:], redactCutOff)
}

// maxNested queries are looked into, one in a parameter of the other.
const maxNested = 3

func redactParameters(query string, nested int) string {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		parts[i] = redactParts(part, nested)
	}
	return strings.Join(parts, "&")
}

// redactParts of what some take for one parameter and others for several: a credential may have a semicolon, so what follows
// one is hidden with it.
func redactParts(parameter string, nested int) string {
	parts := strings.Split(parameter, ";")
	for i, part := range parts {
		name, value, hasValue := strings.Cut(part, "=")
		switch plain := decoded(name); {
		case !hasValue:
			parts[i] = redactNested(part, nested)
		case value != "" && (plain == "sig" || namesSecret(plain)):
			parts[i] = name + "=" + redacted
			return strings.Join(parts[:i+1], ";")
		default:
			parts[i] = name + "=" + redactNested(value, nested)
		}
	}
	return strings.Join(parts, ";")
}

// redactNested hides what is in a value, and in what that means when it is decoded.
func redactNested(value string, nested int) string {
	if nested == 0 {
		return value
	}
	return redactDecoded(value, func(plain string) string {
		plain = redactURLs(plain)
		if at := strings.IndexAny(plain, "?#"); at >= 0 {
			return plain[:at+1] + redactParameters(plain[at+1:], nested-1)
		}
		if decoded(plain) == plain {
			return plain
		}
		return redactNested(plain, nested-1)
	})
}

// redactDecoded leaves a value as it was written if nothing in it is to be hidden.
func redactDecoded(value string, redact func(plain string) string) string {
	plain := decoded(value)
	clean := redact(plain)
	switch {
	case clean == plain:
		return value
	case plain == value:
		return clean
	default:
		return url.QueryEscape(clean)
	}
}

var escapes = regexp.MustCompile("%[0-9A-Fa-f]{2}")

// decoded is a text without percent-encoding. What is none stays: the last escape may be cut off.
func decoded(text string) string {
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	return escapes.ReplaceAllStringFunc(strings.ReplaceAll(text, "+", " "), func(escape string) string {
		plain, err := url.QueryUnescape(escape)
		if err != nil {
			return escape
		}
		return plain
	})
}
