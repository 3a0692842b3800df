// Verifies certificates as Go's clients of a TPM do (go-attestation, SPIRE, go-tpm-tools): verify CA CERTIFICATE...,
// files in DER. Says nothing and succeeds if crypto/x509 trusts every certificate with the CA as the only root.
package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
)

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func read(name string) *x509.Certificate {
	der, err := os.ReadFile(name)
	check(err, name)
	certificate, err := x509.ParseCertificate(der)
	check(err, name)
	if unhandled := certificate.UnhandledCriticalExtensions; len(unhandled) != 0 {
		check(fmt.Errorf("critical extensions that are not handled: %v", unhandled), name)
	}
	return certificate
}

func main() {
	ca := read(os.Args[1])
	check(ca.CheckSignatureFrom(ca), "the CA's own signature")
	if !ca.IsCA || !ca.BasicConstraintsValid || !ca.MaxPathLenZero {
		check(fmt.Errorf("%v, %v, %v", ca.IsCA, ca.BasicConstraintsValid, ca.MaxPathLenZero), "the CA's basic constraints")
	}
	if !bytes.Equal(ca.SubjectKeyId, ca.AuthorityKeyId) || len(ca.SubjectKeyId) == 0 {
		check(fmt.Errorf("%x, %x", ca.SubjectKeyId, ca.AuthorityKeyId), "the CA's key identifiers")
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	// Go has no name for the TCG's extended key usages, and its clients check them by themselves.
	options := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, name := range os.Args[2:] {
		certificate := read(name)
		_, err := certificate.Verify(options)
		check(err, name)
		if certificate.IsCA || !bytes.Equal(certificate.AuthorityKeyId, ca.SubjectKeyId) || len(certificate.Subject.Names) == 0 {
			check(fmt.Errorf("%v, %x, %q", certificate.IsCA, certificate.AuthorityKeyId, certificate.Subject), name)
		}
	}
}
