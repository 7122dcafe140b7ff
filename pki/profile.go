package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"github.com/secgossip/secgossip/internal/cose"
)

// The four classes of certificate. The words are in the subject (OU) and, but
// for the root, in the path of the SPIFFE id.
const (
	classRoot   = "root"
	classIssuer = "issuer"
	classNode   = "node"
	classClient = "client"
)

// subject is whom a certificate names. Together with the subject's key and the
// signer's key id it determines everything in the certificate but the serial
// number and the times.
type subject struct {
	cluster Name
	class   string
	name    Name // the root's is the cluster's
}

// uri returns the SPIFFE id.
func (s subject) uri() string {
	if s.class == classRoot {
		return "spiffe://" + string(s.cluster)
	}
	return "spiffe://" + string(s.cluster) + "/" + s.class + "/" + string(s.name)
}

func (s subject) String() string { return s.class + " " + string(s.name) }

// distinguishedName returns the DER of O=CLUSTER, OU=CLASS, CN=NAME. It is for
// people and for finding the signer; the SPIFFE id is what is believed.
func (s subject) distinguishedName() []byte {
	return der(pkix.Name{
		Organization:       []string{string(s.cluster)},
		OrganizationalUnit: []string{s.class},
		CommonName:         string(s.name),
	}.ToRDNSequence())
}

// extension is one entry of a profile, with the name that errors use.
type extension struct {
	what string
	pkix.Extension
}

// profile returns the extensions a certificate of s must have: these, with these
// values, and no others.
//
//	                       root       issuer     node            client
//	key usage              certSign   certSign   digitalSignature digitalSignature  critical
//	extended key usage     -          -          server, client   client
//	basic constraints      CA, 1      CA, 0      not CA           not CA            critical
//	subject key id         key        key        -                -
//	authority key id       -          signer     signer           signer
//	alternative names      URI        URI        DNS, URI         DNS, URI
//	name constraints       CLUSTER    CLUSTER    -                -                 critical
//
// Key ids are those of package cose: what finds the signer of a credential
// finds the signer of a certificate.
func (s subject) profile(key ed25519.PublicKey, signer []byte) []extension {
	keyID := cose.KeyIDOf(key)
	isCA := s.class == classRoot || s.class == classIssuer
	list := []extension{keyUsage(isCA)}
	if !isCA {
		list = append(list, extendedKeyUsage(s.class))
	}
	list = append(list, basicConstraints(s.class))
	if isCA {
		list = append(list, extension{"subject key id", pkix.Extension{Id: oid(14), Value: der(keyID[:])}})
	}
	if s.class != classRoot {
		value := der(struct {
			ID []byte `asn1:"tag:0"`
		}{signer})
		list = append(list, extension{"authority key id", pkix.Extension{Id: oid(35), Value: value}})
	}
	list = append(list, s.alternativeNames())
	if isCA {
		list = append(list, s.nameConstraints())
	}
	return list
}

// keyUsage: RFC 5280, section 4.2.1.3. Bit 5 is keyCertSign, bit 0
// digitalSignature. There are no revocation lists, so nobody signs them.
func keyUsage(isCA bool) extension {
	bits := asn1.BitString{Bytes: []byte{0x80}, BitLength: 1}
	if isCA {
		bits = asn1.BitString{Bytes: []byte{0x04}, BitLength: 6}
	}
	return extension{"key usage", pkix.Extension{Id: oid(15), Critical: true, Value: der(bits)}}
}

// extendedKeyUsage: RFC 5280, section 4.2.1.12. A node dials and listens; a
// client only dials, so a stolen client certificate cannot pose as an agent.
func extendedKeyUsage(class string) extension {
	serverAuth := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	clientAuth := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	usages := []asn1.ObjectIdentifier{clientAuth}
	if class == classNode {
		usages = []asn1.ObjectIdentifier{serverAuth, clientAuth}
	}
	return extension{"extended key usage", pkix.Extension{Id: oid(37), Value: der(usages)}}
}

// basicConstraints: RFC 5280, section 4.2.1.9. Threat K12: path length 0 means
// that what an issuer signs can sign nothing.
func basicConstraints(class string) extension {
	value := struct {
		IsCA       bool `asn1:"optional"`
		PathLength int  `asn1:"optional,default:-1"`
	}{PathLength: -1}
	switch class {
	case classRoot:
		value.IsCA, value.PathLength = true, 1
	case classIssuer:
		value.IsCA, value.PathLength = true, 0
	}
	return extension{"basic constraints", pkix.Extension{Id: oid(19), Critical: true, Value: der(value)}}
}

// alternativeNames: RFC 5280, section 4.2.1.6; tag 2 is a DNS name, 6 a URI.
// The whole value is compared, so names of kinds that no reader here looks at
// cannot ride along.
func (s subject) alternativeNames() extension {
	uri := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(s.uri())}
	names := []asn1.RawValue{uri}
	if s.class == classNode || s.class == classClient {
		dns := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(s.name)}
		names = []asn1.RawValue{dns, uri}
	}
	return extension{"alternative names", pkix.Extension{Id: oid(17), Value: der(names)}}
}

// nameConstraints: RFC 5280, section 4.2.1.10. Threat K12: a root or an issuer
// is good for SPIFFE ids of its own cluster, also in the eyes of other programs.
func (s subject) nameConstraints() extension {
	type subtree struct{ Base asn1.RawValue }
	value := struct {
		Permitted []subtree `asn1:"tag:0"`
	}{[]subtree{{asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(s.cluster)}}}}
	return extension{"name constraints", pkix.Extension{Id: oid(30), Critical: true, Value: der(value)}}
}

// checkProfile reports whether cert is exactly what sign would have written, and
// returns whom it names. Threat K11. It verifies no signature and no time, and
// of the authority key id only that there is one: for the rest see verifyPath.
// Versions before 3 have no extensions and so no name.
func checkProfile(cert *x509.Certificate) (subject, error) {
	who, err := subjectOf(cert)
	if err != nil {
		return subject{}, fmt.Errorf("certificate %w: %w", ErrProfile, err)
	}
	if err := who.check(cert); err != nil {
		return subject{}, fmt.Errorf("certificate of %s %w: %w", who, ErrProfile, err)
	}
	return who, nil
}

func (s subject) check(cert *x509.Certificate) error {
	key, err := onlyEd25519(cert)
	if err != nil {
		return err
	}
	if err := checkSigningKey(key); err != nil {
		return err
	}
	if cert.SerialNumber.Sign() <= 0 {
		return errors.New("the serial number is not positive")
	}
	if !bytes.Equal(cert.RawSubject, s.distinguishedName()) {
		return errors.New("the subject is not that of its SPIFFE id")
	}
	return checkExtensions(cert.Extensions, s.profile(key, cert.AuthorityKeyId))
}

// checkExtensions compares as a set; the parser has refused repeated ones.
func checkExtensions(got []pkix.Extension, want []extension) error {
	for _, w := range want {
		found := false
		for _, g := range got {
			if g.Id.Equal(w.Id) {
				found = g.Critical == w.Critical && bytes.Equal(g.Value, w.Value)
			}
		}
		if !found {
			return fmt.Errorf("%s missing or not as it must be", w.what)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d extensions, want %d", len(got), len(want))
	}
	return nil
}

// onlyEd25519 returns the certificate's key if that and the signature on it are
// Ed25519. Callers ask before they verify anything: a stranger may send a key
// of another kind whose mathematics takes a thousand times as long.
func onlyEd25519(cert *x509.Certificate) (ed25519.PublicKey, error) {
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the key is %s, want Ed25519", cert.PublicKeyAlgorithm)
	}
	if cert.SignatureAlgorithm != x509.PureEd25519 {
		return nil, fmt.Errorf("the signature is %s, want Ed25519", cert.SignatureAlgorithm)
	}
	return key, nil
}

// subjectOf reads the one URI. That it is spelt in the one right way is seen
// when the extension is compared as a whole.
func subjectOf(cert *x509.Certificate) (subject, error) {
	if len(cert.URIs) != 1 {
		return subject{}, fmt.Errorf("%d URI names, want 1", len(cert.URIs))
	}
	path, ok := strings.CutPrefix(cert.URIs[0].String(), "spiffe://")
	if !ok {
		return subject{}, errors.New("the URI name is not a SPIFFE id")
	}
	parts := strings.Split(path, "/")
	cluster, err := ParseName(parts[0])
	if err != nil {
		return subject{}, fmt.Errorf("the SPIFFE id's cluster: %w", err)
	}
	if len(parts) == 1 {
		return subject{cluster, classRoot, cluster}, nil
	}
	if len(parts) != 3 || parts[1] != classIssuer && parts[1] != classNode && parts[1] != classClient {
		return subject{}, errors.New("the SPIFFE id is none of an issuer, a node or a client")
	}
	name, err := ParseName(parts[2])
	if err != nil {
		return subject{}, fmt.Errorf("the SPIFFE id's name: %w", err)
	}
	return subject{cluster, parts[1], name}, nil
}

// oid returns the id of a certificate extension (RFC 5280, section 4.2.1).
func oid(last int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, last} }

// der encodes values whose shape is fixed above and which therefore always encode.
func der(v any) []byte {
	out, err := asn1.Marshal(v)
	if err != nil {
		panic("internal error: encoding a certificate field: " + err.Error())
	}
	return out
}
