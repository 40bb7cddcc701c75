# Completion for vmdevctl in bash: verbs, options and VMMs as its help has them, devices as they are now.

_vmdevctl()
{
	local word='' verb='' offers='' place=0 i
	local -a words connect=()

	# Not COMP_WORDS: an address has characters at which readline breaks words.
	read -ra words <<<"${COMP_LINE:0:COMP_POINT}"
	[[ ${COMP_LINE:COMP_POINT-1:1} == [[:space:]] ]] && words+=('')
	word=${words[-1]}
	COMPREPLY=()
	for ((i = 1; i < ${#words[@]} - 1; i++)); do
		case ${words[i]} in
		-H | --host | --address) connect+=("${words[i]}" "${words[++i]}") ;;
		--host=* | --address=*) connect+=("${words[i]}") ;;
		-*) ;;
		*) if [[ $verb ]]; then ((++place)); else verb=${words[i]}; fi ;;
		esac
	done
	((i > ${#words[@]} - 1)) && return # the value of an option
	if [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$("$1" --help | grep -o -e '--[a-z-]*')" -- "$word")
		return
	fi
	case $verb:$place in
	:*) offers=$("$1" --help | sed -n 's/^  \([a-z]\+\) .*/\1/p') ;;
	attach:0) offers=$("$1" --help | sed -n 's/^  attach \+\([^ ]*\) .*/\1/p' | tr '|' ' ') ;;
	list:0 | status:0 | attach:1 | start:* | stop:* | restart:* | remove:*)
		offers=$("$1" "${connect[@]}" list 2>/dev/null | sed -n '1d; s/^\(\([^/ ]*\)\/[^ ]*\) .*/\2 \1/p' | sort -u) ;;
	apply:*)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return ;;
	*) return ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$offers" -- "$word" | sort -u)
}
complete -F _vmdevctl vmdevctl
