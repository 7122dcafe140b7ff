package lab

import (
	"context"
	"crypto/rand"
)

// Init makes a cluster and the home of its first node, a keeper. The client
// operator, who may do everything, is in that home.
func (l *Lab) Init(ctx context.Context, cluster, keeper string) error {
	l.passphrase = rand.Text() + "\n"
	_, err := l.Run(ctx, Command{
		Args:  []string{"--home", l.In(keeper), "init", "--cluster", cluster, "--node", keeper, "--passphrase-file", "-"},
		Stdin: l.passphrase,
	})
	return err
}

// IssueNode makes the home of another node.
func (l *Lab) IssueNode(ctx context.Context, keeper, name string) error {
	return l.issue(ctx, keeper, "node", name)
}

// IssueKeeper makes the home of another keeper, which takes the root of the first.
func (l *Lab) IssueKeeper(ctx context.Context, keeper, name string) error {
	return l.issue(ctx, keeper, "node", name, "--role", "keeper", "--passphrase-file", "-")
}

// IssueClient makes the home of a client, with grants.
func (l *Lab) IssueClient(ctx context.Context, keeper, name string, grants ...string) error {
	var flags []string
	for _, grant := range grants {
		flags = append(flags, "--grant", grant)
	}
	return l.issue(ctx, keeper, "client", name, flags...)
}

func (l *Lab) issue(ctx context.Context, keeper, kind, name string, flags ...string) error {
	args := []string{"--home", l.In(keeper), "pki", "issue", kind, name, "--out", l.In(name)}
	_, err := l.Run(ctx, Command{Args: append(args, flags...), Stdin: l.passphrase})
	return err
}
