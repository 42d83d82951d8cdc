// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package dns // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"

import "strconv"

// Operations, as IANA numbers them.
const (
	OpcodeQuery    = uint8(0)
	OpcodeStateful = uint8(6) // its messages need not be answered (RFC 8490)
)

var opcodeNames = map[uint8]string{
	0: "QUERY", 1: "IQUERY", 2: "STATUS", 4: "NOTIFY", 5: "UPDATE", 6: "DSO",
}

// OpcodeName is an operation's mnemonic, or its number as text.
func OpcodeName(opcode uint8) string {
	if name, ok := opcodeNames[opcode]; ok {
		return name
	}
	return strconv.Itoa(int(opcode))
}

// Response codes, as IANA numbers them.
const (
	NoError   = uint16(0)
	NameError = uint16(3) // NXDOMAIN
)

// responseCodes as IANA names them. 16 is BADSIG in signatures, which are not read here.
var responseCodes = [...]string{
	0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED",
	6: "YXDOMAIN", 7: "YXRRSET", 8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 11: "DSOTYPENI",
	16: "BADVERS", 17: "BADKEY", 18: "BADTIME", 19: "BADMODE", 20: "BADNAME", 21: "BADALG",
	22: "BADTRUNC", 23: "BADCOOKIE",
}

// ResponseCodeName is a response code's mnemonic, or its number as text.
func ResponseCodeName(code uint16) string {
	if int(code) < len(responseCodes) && responseCodes[code] != "" {
		return responseCodes[code]
	}
	return strconv.Itoa(int(code))
}

// typeNames as IANA has them: those that are in use, and that can be asked for.
var typeNames = map[uint16]string{
	1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 10: "NULL", 11: "WKS", 12: "PTR", 13: "HINFO", 14: "MINFO", 15: "MX",
	16: "TXT", 17: "RP", 18: "AFSDB", 24: "SIG", 25: "KEY", 28: "AAAA", 29: "LOC", 33: "SRV", 35: "NAPTR",
	36: "KX", 37: "CERT", 38: "A6", 39: "DNAME", 41: "OPT", 42: "APL", 43: "DS", 44: "SSHFP", 45: "IPSECKEY",
	46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 49: "DHCID", 50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA", 53: "SMIMEA",
	55: "HIP", 59: "CDS", 60: "CDNSKEY", 61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD", 64: "SVCB", 65: "HTTPS",
	99: "SPF", 104: "NID", 105: "L32", 106: "L64", 107: "LP", 108: "EUI48", 109: "EUI64",
	249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", 253: "MAILB", 254: "MAILA", 255: "ANY",
	256: "URI", 257: "CAA", 260: "AMTRELAY", 32768: "TA", 32769: "DLV",
}

// TypeName is a record type's mnemonic, or TYPE123 as RFC 3597 has it.
func TypeName(kind uint16) string {
	if name, ok := typeNames[kind]; ok {
		return name
	}
	return "TYPE" + strconv.Itoa(int(kind))
}
