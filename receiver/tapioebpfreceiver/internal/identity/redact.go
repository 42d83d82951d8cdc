// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package identity // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"

import (
	"bytes"
	"slices"
	"strings"
)

// redacted stands where a credential stood, as semantic conventions have it for URLs.
const redacted = "REDACTED"

// secretWords make an option, variable or header name that of a credential when they are a part of
// it, whatever its spelling: --db-password, API_KEY=, X-Auth-Token:.
var secretWords = []string{
	"password", "passwd", "passphrase", "secret", "token", "credential",
	"apikey", "accesskey", "privatekey", "authorization", "cookie",
}

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
// in values of options, variables and headers whose names say so (--token=x, --token x,
// PGPASSWORD=x, -H "Authorization: x"), and in user:password pairs after -u, --user.
func Redact(arguments []string) []string {
	hideNext := false
	hidePair := false
	for i, argument := range arguments {
		isOption := strings.HasPrefix(argument, "-")
		switch {
		case i == 0:
			continue // the program's own name
		case hideNext && !isOption:
			arguments[i] = redacted
		case hidePair && !isOption:
			arguments[i] = redactPair(argument)
		default:
			arguments[i] = redactURLs(redactValue(argument))
		}
		hideNext = isOption && !strings.ContainsAny(argument, "=: ") && namesSecret(argument)
		hidePair = slices.Contains([]string{"-u", "--user", "--proxy-user"}, argument)
	}
	return arguments
}

// redactValue hides what follows a name that is a credential's.
func redactValue(argument string) string {
	at := strings.IndexAny(argument, "=:")
	if at < 0 || !namesSecret(argument[:at]) || strings.HasPrefix(argument[at:], "://") {
		return argument
	}
	if at+1 == len(argument) {
		return argument
	}
	return argument[:at+1] + redacted
}

// namesSecret compares without case, dashes and underscores.
func namesSecret(name string) bool {
	plain := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' {
			return -1
		}
		return r
	}, strings.ToLower(name))
	return slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(plain, word) })
}

func redactPair(pair string) string {
	user, _, ok := strings.Cut(pair, ":")
	if !ok {
		return pair
	}
	return user + ":" + redacted
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
	authority := text[start:end]
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		authority = redacted + ":" + redacted + authority[at:]
	}
	return text[:start] + authority + redactURLs(text[end:])
}
