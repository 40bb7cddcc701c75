/*
 * The link test of a floor: this program is linked with the whole of one static library and with
 * those below it. A floor that calls upwards leaves an undefined symbol, and the build fails.
 */
int main(void)
{
	return 0;
}
